"""A run reduced to a baseline, and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualfocus_eval.analysis import reading
from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.engines import weights_digest
from dualfocus_eval.engines.identity import checkpoint_digest
from dualfocus_eval.gate.baseline import Answer, Baseline, Provenance, reduce_run
from dualfocus_eval.gate.baseline_file import FORMAT, load_baseline, save_baseline
from dualfocus_eval.traces.record import Decision
from tests.analysis.runs import Answered
from tests.gate.gate import MADE_BY, TASK, gate_run, question, read_gate_run

EMPTY = {
    "format": FORMAT, "checkpoint": "", "settings_key": "", "settings": {}, "environment": {}, "made": "", "resumed": 0,
    "contents": {}, "digest": "", "tasks": {},
}  # fmt: skip
answers = st.builds(
    Answer,
    st.integers(0, 10**6),
    st.text("0123456789abcdef", min_size=12, max_size=12),
    st.none() | st.text(),
    st.floats(0, 1) | st.just(math.nan),
    st.sampled_from([0.0, 0.25, 1.5e-7, 12.0, math.nan]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.dictionaries(
        st.text(min_size=1),
        st.lists(answers, min_size=1, max_size=3, unique_by=lambda answer: answer.doc_id).map(tuple),
        min_size=1,
        max_size=2,
    )
)
def test_a_baseline_survives_its_file(tmp_path: Path, tasks: dict[str, tuple[Answer, ...]]) -> None:
    settings = {"margin": 25.0, "odd": "half \ud800"}
    kept = Baseline(Provenance("tiny-abc", "key", settings, {"dtype": "float32"}, "20260101", 3), tasks)
    path = tmp_path / "deep" / "baseline.json"
    save_baseline(kept, path)
    found = load_baseline(path)
    assert repr(found) == repr(kept)  # NaN is not equal to itself


def test_a_question_is_a_line_of_the_file(tmp_path: Path) -> None:
    rows = [question(number, "yes") for number in range(40)]
    run = reduce_run(read_gate_run(gate_run(tmp_path / "run", rows), rows))
    save_baseline(run, tmp_path / "baseline.json")
    lines = (tmp_path / "baseline.json").read_text().splitlines()
    assert sum('"yes", "' in line for line in lines) == 40
    assert max(map(len, lines)) < 120
    assert json.loads((tmp_path / "baseline.json").read_text())["environment"] == {**MADE_BY, "batch_size": 16}


def test_a_run_is_reduced_to_its_answers(tmp_path: Path) -> None:
    rows = [question(0, "yes", gap=0.25), question(1, "no", gap=None)]
    run = reduce_run(read_gate_run(gate_run(tmp_path / "run", rows), rows))
    (first, second) = run.tasks[TASK]
    assert (first.doc_id, first.text, first.score, first.gap) == (0, "yes", 1.0, 0.25)
    assert (second.text, second.score, math.isnan(second.gap)) == ("no", 0.0, True)
    assert first.question == rows[0].trace.question_digest[:12]
    assert first.cluster == rows[0].trace.images[0].digest


def _saved(tmp_path: Path, questions: int = 6) -> tuple[Path, dict[str, Any]]:
    """A baseline of two tasks, and its content."""
    of_task = tuple(Answer(doc_id, f"{doc_id:012x}", "yes", 1.0, 0.5) for doc_id in range(questions))
    provenance = Provenance("tiny-abc", "key", {"margin": 25.0}, {"dtype": "float32"}, "20260101")
    save_baseline(Baseline(provenance, {"pope": of_task, "seed": of_task}), tmp_path / "baseline.json")
    return tmp_path / "baseline.json", json.loads((tmp_path / "baseline.json").read_text())


def _cut_to_one_question(content: dict[str, Any]) -> None:
    del content["tasks"]["pope"][1:]


def _lose_a_task(content: dict[str, Any]) -> None:
    del content["tasks"]["seed"]


def _hide_a_task(content: dict[str, Any]) -> None:
    del content["tasks"]["seed"], content["contents"]["seed"]


def _hide_rows(content: dict[str, Any]) -> None:
    _cut_to_one_question(content)
    content["contents"]["pope"] = {"questions": 1, "doc_ids": "0"}


def _make_a_right_answer_wrong(content: dict[str, Any]) -> None:
    content["tasks"]["pope"][2][2] = 0.0


def _add_a_row(content: dict[str, Any]) -> None:
    content["tasks"]["pope"].append([7, *content["tasks"]["pope"][0][1:]])


def _exchange_rows(content: dict[str, Any]) -> None:
    content["tasks"]["pope"].reverse()


def _say_another_precision(content: dict[str, Any]) -> None:
    content["environment"]["dtype"] = "bfloat16"


def _say_another_checkpoint(content: dict[str, Any]) -> None:
    content["checkpoint"] = "tiny-def"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut_to_one_question, r"5 of the 6 questions of pope are missing \(pope/1, pope/2, pope/3, \.\.\.\)"),
        (_lose_a_task, "task seed with its 6 questions is missing"),
        (_hide_a_task, "what it says of its run and its contents"),
        (_hide_rows, "what it says of its run and its contents"),
        (_make_a_right_answer_wrong, r"1 of the 6 questions of pope were changed \(pope/2\)"),
        (_add_a_row, r"1 of the 6 questions of pope were added \(pope/7\)"),
        (_exchange_rows, "the order of its questions"),
        (_say_another_precision, "what it says of its run"),
        (_say_another_checkpoint, "what it says of its run"),
    ],
)
def test_a_baseline_that_was_changed_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path, content = _saved(tmp_path)
    path.write_text(json.dumps(content))  # another layout changes nothing
    assert load_baseline(path).questions == 12
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"was changed after it was written: .*{message}"):
        load_baseline(path)


def test_a_baseline_says_how_much_it_holds(tmp_path: Path) -> None:
    _, content = _saved(tmp_path)
    assert content["contents"] == {task: {"questions": 6, "doc_ids": "0-5"} for task in ("pope", "seed")}


def test_the_committed_baselines_are_as_they_were_written() -> None:
    for name, questions in (("df_pope_mini", 300), ("df_textvqa_mini", 100)):
        assert load_baseline(resource_folder("reports") / "baselines" / f"{name}.json").questions == questions


def test_a_baseline_of_a_resumed_run_says_so(tmp_path: Path) -> None:
    rows = [question(0, "yes"), question(1, "no")]
    folder = gate_run(tmp_path / "run", rows)
    _edit(lambda arguments: arguments["dualfocus"]["summary"].update(resumed=1))(folder)
    assert reduce_run(read_gate_run(folder, rows), resumed=True).provenance.resumed == 1
    # Answers of another key are none of this run.
    traces = folder / "traces" / "traces.rank0000.jsonl"
    first, second = traces.read_text().splitlines()
    traces.write_text(first.replace("these settings", "others") + "\n" + second + "\n")
    with pytest.raises(UserError, match="the run is incomplete"):
        reduce_run(read_gate_run(folder, rows), resumed=True)


def test_a_task_that_cannot_be_loaded_again_can_still_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "load_tasks", lambda names, _: ({}, dict.fromkeys(names, "it is in another folder")))
    run = read_run(gate_run(tmp_path / "run", [question(0, "yes")]))
    assert "another folder" in str(run.faults[0])
    assert [answer.score for answer in reduce_run(run).tasks[TASK]] == [1.0]


def test_traces_of_another_run_change_nothing(tmp_path: Path) -> None:
    rows = [question(0, "yes"), question(1, "no")]
    folder = gate_run(tmp_path / "run", rows)
    alone = reduce_run(read_gate_run(folder, rows))
    foreign = replace(rows[0].trace, settings_key="others", selected=None)
    with (folder / "traces" / "traces.rank0000.jsonl").open("a") as file:
        file.write(foreign.to_json() + "\n")
    assert reduce_run(read_gate_run(folder, rows)) == alone


@pytest.mark.parametrize(
    "path", sorted((resource_folder("reports") / "baselines").glob("*.json")), ids=lambda path: path.stem
)
def test_the_package_s_baselines_are_of_the_embedded_checkpoint(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_digest, "user_cache_path", lambda name: tmp_path)
    digest = checkpoint_digest(str(resource_folder("models") / EMBEDDED_CHECKPOINT))
    assert load_baseline(path).provenance.checkpoint == f"{EMBEDDED_CHECKPOINT}-{digest}", "make baselines"


def _gap(tmp_path: Path, row: Answered, **changes: Any) -> float:
    run = reduce_run(read_gate_run(gate_run(tmp_path / "run", [row], **changes), [row]))
    return run.tasks[TASK][0].gap


def test_a_close_choice_between_candidates_is_a_close_call(tmp_path: Path) -> None:
    row = question(0, "yes", micro="no", gap=0.5, nlls=(0.5, 0.5004))
    assert _gap(tmp_path, row) == pytest.approx(0.0004)
    agreed = replace(row, trace=replace(row.trace, decision=Decision.AGREEMENT))
    assert _gap(tmp_path / "agreed", agreed) == 0.5


def test_a_close_choice_to_skip_the_second_pass_is_a_close_call(tmp_path: Path) -> None:
    row = question(0, "yes", gap=0.5, nlls=(0.5, 0.5))
    assert _gap(tmp_path, row, settings={"adaptive_nll": 0.4999}) == pytest.approx(0.0001)


def _cut_the_last_line(folder: Path) -> None:
    path = folder / "traces" / "traces.rank0000.jsonl"
    path.write_text(path.read_text()[:-20])


def _lose_a_sample(folder: Path) -> None:
    path = folder / f"1_samples_{TASK}.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _leave_the_traces_out(folder: Path) -> None:
    (folder / "traces" / "traces.rank0000.jsonl").unlink()


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        results = json.loads((folder / "1_results.json").read_text())
        change(results["config"]["resolved_cli_args"])
        (folder / "1_results.json").write_text(json.dumps(results))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_the_last_line, "the run is incomplete: .*cut off"),
        (_lose_a_sample, "the run is incomplete: 1 questions are missing from the sample file"),
        (_leave_the_traces_out, "the run is incomplete: .*trace folder is missing"),
        (_edit(lambda arguments: arguments.pop("dualfocus")), "not written by --model dualfocus"),
        (_edit(lambda arguments: arguments["dualfocus"].pop("environment")), "does not say what ran it; run again"),
        (
            _edit(lambda arguments: arguments["dualfocus"]["summary"].update(resumed=2)),
            "2 answers were not computed by this run .*empty --output_path",
        ),
    ],
)
def test_a_run_that_says_nothing_about_the_code_now_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    rows = [question(0, "yes"), question(1, "no")]
    folder = gate_run(tmp_path / "run", rows)
    damage(folder)
    with pytest.raises(UserError, match=message):
        reduce_run(read_gate_run(folder, rows))


def _with_rows(*rows: list[Any]) -> str:
    return json.dumps(EMPTY | {"tasks": {"t": rows}})


def _with_contents(questions: int, doc_ids: str) -> str:
    return json.dumps(EMPTY | {"contents": {"t": {"questions": questions, "doc_ids": doc_ids}}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no baseline .*--update"),
        ("{", "cannot be read"),
        ("[]", "baseline.json: expected keys with values, found list; make a new one"),
        ('{"format": 2}', "baseline.json: checkpoint is missing .and 7 more.; make a new one"),
        (json.dumps(EMPTY), "has no questions"),
        ('{"format": 1}', "has format 1, this is 2; renew it"),
        ("\ufeff" + json.dumps(EMPTY), "has no questions"),
        (json.dumps(EMPTY | {"settings": None}), "settings: a value is needed"),
        (json.dumps(EMPTY | {"environment": {"packages": None}}), "packages are not an object"),
        (_with_rows([0, "d", "x", 1, "a", "c"]), "tasks, t 1, score: 'x' is not a number"),
        (_with_rows([0, "d", math.nan, 1, "a", "c"]), "tasks, t 1, score: nan must be a finite number"),
        (_with_rows([0, "d", 1, 1, 5, "c"]), "tasks, t 1, text: 5 is not text"),
        (_with_rows([0, "d", 1, 1, "a", "c"], [0, "d", 1, 1, "a", "c"]), "tasks, t 2: question 0 stands there twice"),
        (_with_rows([0, "d"]), "tasks, t 1: score is missing"),
        (_with_contents(2, "0-2"), "contents, t: 0-2 are not 2 questions"),
        (_with_contents(1, "x"), "contents, t: doc_ids: x are no ranges of numbers"),
        (_with_contents(1, f"1-{10**30}"), "are not 1 questions"),
        (
            _with_contents(10**9, f"1-{10**9}"),
            "contents, t, questions: 1000000000 must be at least 0 and at most 10000000",
        ),
    ],
)
def test_what_is_no_baseline_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "baseline.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_baseline(tmp_path / "baseline.json")
