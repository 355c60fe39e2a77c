"""What became of each question, in lmms-eval's own results: through its Python API, with a small checkpoint."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import make_table

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.base import Completion, Failure
from dualfocus_eval.harness.outcomes import Outcomes
from dualfocus_eval.harness.task_index import task_manager
from dualfocus_eval.method.boxes import BoxOutcome
from dualfocus_eval.method.pipeline import Likelihood
from dualfocus_eval.traces.record import ContextScores, Decision, Fallback, Grounding, Trace
from dualfocus_eval.traces.trace_files import join_traces

POPE = resource_folder("tasks") / "pope"


@pytest.fixture(scope="module")
def half_broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of 3 questions: ``whole``, ``broken`` (the last two images cannot be read), and a group of both."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = pq.read_table(POPE / "data" / "random.parquet").slice(0, 3)
    pq.write_table(rows, folder / "whole.parquet")
    first, *others = rows.to_pylist()  # lmms-eval itself decodes the first image as it loads a task
    damaged = [first, *(row | {"image": {"bytes": b"no image", "path": None}} for row in others)]
    pq.write_table(pa.Table.from_pylist(damaged, rows.schema), folder / "broken.parquet")
    for name in ("whole", "broken"):
        data = f"dataset_kwargs: {{data_files: {{test: {folder / name}.parquet}}}}"
        (folder / f"{name}.yaml").write_text(f"include: {POPE / '_pope_mini'}\ntask: {name}\n{data}\n")
    aggregated = "aggregate_metric_list: [{metric: accuracy, aggregation: mean, weight_by_size: true}]"
    (folder / "both.yaml").write_text(f"group: both\ntask: [whole, broken]\n{aggregated}\n")
    return folder


def evaluate(
    tasks: list[str], arguments: str | Mapping[str, Any], manager: Any, flags: Namespace | None = None
) -> dict[str, Any]:
    """lmms-eval's Python API; its command line passes ``flags`` as well."""
    results: dict[str, Any] = simple_evaluate(
        model="dualfocus", model_args=arguments, tasks=tasks, limit=3, task_manager=manager, bootstrap_iters=0,
        cli_args=flags,
    )  # fmt: skip
    return results


@pytest.mark.parametrize("kind", [dict, str])
def test_the_python_api_gets_record_and_rows(checkpoint: Path, tmp_path: Path, kind: type) -> None:
    arguments: dict[str, Any] = {"pretrained": str(checkpoint), "trace_dir": str(tmp_path), "batch_size": 2}
    given = arguments if kind is dict else ",".join(f"{name}={value}" for name, value in arguments.items())
    results = evaluate(["df_pope_mini_random"], given, task_manager(["df_pope_mini_random"]))
    record = results["dualfocus"]
    assert record["batch_size"] == 2
    assert record["summary"]["questions"] == 3
    assert record["traces"] == str(tmp_path)
    assert record["tasks"] == {"df_pope_mini_random": {"questions": 3, "failures": {}}}
    assert results["results"]["df_pope_mini_random"]["failed,none"] == 0
    assert "FAILED" not in make_table(results)
    json.dumps(record, allow_nan=False)

    traces = {trace.key: trace for trace in join_traces(tmp_path)}
    samples = results["samples"]["df_pope_mini_random"]
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2]
    for sample in samples:
        row, trace = sample["dualfocus"], traces[f"df_pope_mini_random/{sample['doc_id']}"]
        json.dumps(row, allow_nan=False)
        assert (row["answer"], row["selected"], row["failure"]) == (trace.text, trace.selected, None)
        assert row["macro"] == trace.macro.text
        assert sample["filtered_resps"] == [row["answer"]]
        assert row["rule"] == "micro_context"
        if trace.scores:
            assert (row["nll_macro"], row["nll_micro"]) == (trace.scores.macro_nll, trace.scores.micro_nll)


def test_failed_questions_are_a_metric_and_stand_beside_the_scores(
    checkpoint: Path, half_broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = TaskManager("ERROR", str(half_broken), include_defaults=False, model_name="dualfocus")
    # Without this flag lmms-eval decodes every image once more to score its question.
    flags = Namespace(process_with_media=False)
    results = evaluate(["both"], {"pretrained": str(checkpoint), "trace_dir": str(tmp_path)}, manager, flags)
    shown = " ".join(capsys.readouterr().out.split())
    assert "dualfocus: 2 of 6 questions failed (bad_image 2)" in shown
    assert results["dualfocus"]["tasks"] == {
        "whole": {"questions": 3, "failures": {}},
        "broken": {"questions": 3, "failures": {"bad_image": 2}},
    }
    assert {name: values["failed,none"] for name, values in results["results"].items()} == {
        "both": 2, "whole": 0, "broken": 2,
    }  # fmt: skip
    assert results["groups"]["both"]["failed,none"] == 2
    assert results["samples"]["broken"][0]["dualfocus"]["failure"] is None
    for sample in results["samples"]["broken"][1:]:
        assert sample["dualfocus"]["failure"]["kind"] == "bad_image"
        assert sample["dualfocus"]["answer"] == ""
    tables = [make_table(results), make_table(results, "groups")]
    lines = [line for table in tables for line in table.splitlines() if "|accuracy" in line]
    assert ["broken (2 of 3 questions FAILED)" in line for line in lines] == [False, True, False, False]
    assert ["both (2 of 6 questions FAILED)" in line for line in lines] == [True, False, False, True]
    assert "whole (" not in tables[0]
    assert any("|failed" in line and "↓" in line for line in tables[0].splitlines())


def answered(**fields: Any) -> Trace:
    macro = Completion("red", (1, 0), (-0.5, -0.5), "eos")
    micro = Completion("blue", (2, 0), (-0.2, -0.6), "eos")
    grounding = Grounding(Completion("[0,0,1,1]", (3, 0), (-0.1, -0.1), "eos"), BoxOutcome.OK, Box(0, 0.1, 0.5, 1))
    scores = ContextScores("answer", (-1.0, -2.0), (-3.0, -math.inf))
    trace = Trace("t/4", "digest", "key", "short", (), macro, micro, grounding, scores=scores, selected="macro")
    return replace(trace, **fields)


@pytest.mark.parametrize(
    ("rule", "costs"),
    [("own_context", (0.5, 0.4)), ("micro_context", (1.5, None)), ("released", (0.8, None)), (None, (None, None))],
)
def test_the_costs_are_those_that_the_rule_compares(rule: Any, costs: tuple[Any, Any]) -> None:
    outcomes = Outcomes()
    outcomes.add_trace(answered(), rule)
    row = outcomes.rows["t/4"]
    assert (row["nll_macro"], row["nll_micro"]) == pytest.approx(costs)
    assert (row["rule"], row["box"]) == (rule, [0, 0.1, 0.5, 1])


def test_a_question_with_one_candidate_has_no_costs() -> None:
    outcomes = Outcomes()
    outcomes.add_trace(
        answered(micro=None, scores=None, fallback="micro_failed", cause=Failure("k", "m")), "micro_context"
    )
    row = outcomes.rows["t/4"]
    assert (row["micro"], row["nll_macro"], row["nll_micro"], row["fallback"]) == (None, None, None, "micro_failed")


def test_reasons_are_plain_text() -> None:
    outcomes = Outcomes()
    outcomes.add_trace(answered(decision=Decision.NLL, fallback=Fallback.MICRO_FAILED, micro=None, scores=None), None)
    outcomes.add_score("t/5", Likelihood(0.5, True, BoxOutcome.UNPARSABLE))
    rows = outcomes.rows
    texts = [rows["t/4"]["decision"], rows["t/4"]["fallback"], rows["t/5"]["fallback"]]
    assert [(type(text), text) for text in texts] == [(str, "nll"), (str, "micro_failed"), (str, "unparsable")]


def test_a_question_that_failed_for_one_of_its_texts_has_failed() -> None:
    outcomes = Outcomes()
    for result in (Likelihood(0.5, True, None), Failure("out_of_memory", "gone"), Likelihood(0.7, False, None)):
        outcomes.add_score("mine/a/3", result)
    outcomes.add_score("mine/a/4", Likelihood(0.5, True, "unparsable"))
    assert outcomes.by_task() == {"mine/a": {"questions": 2, "failures": {"out_of_memory": 1}}}
    assert outcomes.rows["mine/a/4"] == {"fallback": "unparsable", "failure": None}


def test_outcomes_of_all_ranks_add_up() -> None:
    parts = [Outcomes({"t/0": {"failure": None}}), Outcomes({"t/1": {"failure": {"kind": "k", "message": ""}}})]
    assert Outcomes.merged(parts).by_task() == {"t": {"questions": 2, "failures": {"k": 1}}}
