"""What a report opens with: the numbers of its tables, for every kind of run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Number
from dualfocus_eval.report.opening import TaskResult, opening_of
from dualfocus_eval.report.sections.cost import cost_section
from dualfocus_eval.report.sections.selection import selection_section
from dualfocus_eval.report.sections.strategies import strategy_section
from dualfocus_eval.report.writing import report_run
from dualfocus_eval.tiny.effect import POPE, SCENES
from tests.analysis.runs import Answered, answered, failing, run_of, scene


def asked(number: int, macro: bool, micro: bool | None, *, task: str = SCENES) -> Answered:
    """A question whose answers are right or wrong; None for no micro answer."""
    right, wrong = ("red", "blue") if task == SCENES else ("yes", "no")
    doc = scene(number, right) if task == SCENES else {"answer": right, "image_source": f"{number // 2}"}
    texts = [right if score else wrong for score in (macro, micro)]
    return answered(
        task, doc, texts[0], None if micro is None else texts[1], doc_id=number, image=f"{number // 2}"
    )  # fmt: skip


def rows_of(run: Run, section: Any, name: str) -> dict[str, dict[str, Any]]:
    """A table's rows by their name; the column of what was selected is ``*``."""
    table = section(run).tables[name]
    header = ["*" if str(heading).endswith("*") else heading for heading in table.header]
    header = header if "*" in header else ["*" if heading == "selected" else heading for heading in header]
    return {row[0]: dict(zip(header, row, strict=True)) for row in table.rows}


COUNTED = {"images and crops", "generated tokens"}
scored = st.lists(
    st.tuples(st.booleans(), st.none() | st.booleans(), st.sampled_from([SCENES, POPE[0]])), min_size=1, max_size=12
)


@settings(max_examples=10)  # each writes a run and scores it
@given(scored)
def test_every_number_is_that_of_a_table(questions: list[tuple[bool, bool | None, str]]) -> None:
    run = run_of([asked(i, macro, micro, task=task) for i, (macro, micro, task) in enumerate(questions)])
    opening = opening_of(run)
    scores = rows_of(run, strategy_section, "strategies")
    gains = rows_of(run, selection_section, "gain")
    assert [result.task for result in opening.results] == list(scores) == list(gains)
    for result in opening.results:
        assert (result.macro, result.score) == (scores[result.task]["macro"], scores[result.task]["*"])
        assert str(result.difference) == str(gains[result.task]["*"])
        assert result.n == gains[result.task]["n"]
    if "overhead" in cost_section(run).tables:
        costs = rows_of(run, cost_section, "overhead")
        assert {kind for kind, row in costs.items() if f"{row['times']} times the " in opening.sentence} >= COUNTED


def test_gains_and_losses_are_told_apart_by_the_interval() -> None:
    def result(low: float, high: float) -> TaskResult:
        return TaskResult("t", "m", "", 9, Number(60.0), Number(50.0), Number(10.0, low, high, "points"))

    assert [result(*ends).verdict for ends in ((1, 19), (-1, 21), (-19, -1), (math.nan, math.nan))] == [
        "good", "", "bad", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("macro", "score", "expected"),
    [(50.0, 60.0, (50, 10, True)), (60.0, 50.0, (50, 10, False)), (0.0, 0.0, (0, 0, True))],
)
def test_a_bar_shows_the_lower_score_and_the_difference(macro: float, score: float, expected: Any) -> None:
    bar = TaskResult("t", "m", "", 9, Number(score), Number(macro), Number(score - macro, -70.0, 70.0)).bar
    assert bar
    assert (bar.start, bar.length, bar.gained) == expected
    assert (bar.mark, bar.low, bar.high) == (macro, 0.0, min(100.0, macro + 70))


def test_scores_that_are_no_shares_have_no_bar() -> None:
    run = run_of([asked(i, i % 2 == 0, i % 3 == 0) for i in range(6)])
    run.answers[["score_macro", "score_micro", "score_selected"]] *= 7
    records = [record for records in run.metrics[SCENES].values() for record in records if record]
    for record in {id(metrics): metrics for metrics in records}.values():
        record["accuracy"] = {"score": 7 * record["accuracy"]["score"]}
    task = run.tasks[SCENES]
    mean = {"accuracy": lambda records: fmean(record["score"] for record in records)}
    run = replace(run, tasks={SCENES: SimpleNamespace(**{**vars(task), "aggregation": lambda: mean})}, computed={})
    (result,) = opening_of(run).results
    assert (result.share, result.bar) == (False, None)
    assert result.line.startswith(f"{SCENES}, accuracy: macro 3.50, selected ")
    assert "points" not in result.line
    assert any("not shares" in note for note in opening_of(run).notes)


def test_failed_questions_stand_beside_their_task_and_a_limit_below() -> None:
    answers = [asked(i, True, True) for i in range(4)]
    run = run_of([*answers[:3], failing(answers[3])])
    (result,) = opening_of(run).results
    assert result.failed == "1 of 4"
    assert "(1 of 4 FAILED)" in result.line
    limited = replace(run, results={**run.results, "config": {**run.results["config"], "limit": 4.0}})
    assert "--limit 4)" in opening_of(limited).notes[0]


def test_the_sentence_says_how_answers_were_chosen() -> None:
    run = run_of([asked(i, True, i % 2 == 0) for i in range(4)])

    def told(**settings: Any) -> str:
        assert run.record
        record = {**run.record, "settings": {**run.settings, **settings}}
        return opening_of(replace(run, record=record, computed={})).sentence

    assert told().startswith(f"checkpoint answered 4 questions about 2 images in 1 task ({SCENES}), in two passes, at ")
    assert told().endswith("; the rule own_context selected the answers.")
    assert told(strategy="micro").endswith(", with the micro pathway alone.")
    assert "in two passes where the macro answer's NLL was above 0.5" in told(adaptive_nll=0.5)
    other = replace(run, record=None, results={**run.results, "model_name": "some/other"}, computed={})
    assert opening_of(other).sentence == f"other answered 4 questions about 2 images in 1 task ({SCENES})."
    assert opening_of(other).results[0].difference is None
    assert run.record
    served = {**run.record, "engine": {"pretrained": None, "model": "gpt-4o", "base_url": ["http://localhost"]}}
    assert opening_of(replace(run, record=served, computed={})).sentence.startswith("gpt-4o answered 4 questions")


def test_the_markdown_opens_with_the_same_lines(tmp_path: Path) -> None:
    run = run_of([asked(i, True, i % 2 == 0) for i in range(4)])
    text = (report_run(run, tmp_path / "out").parent / "report.md").read_text()
    (result,) = opening_of(run).results
    assert text.index(opening_of(run).sentence[:40]) < text.index(f"- {result.line[:30]}") < text.index("## Strategies")
