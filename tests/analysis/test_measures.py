"""The tasks' own metrics with intervals."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dualfocus_eval.analysis.intervals import GROUPS, rate
from dualfocus_eval.analysis.measures import metric, metrics_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Number
from dualfocus_eval.report.writing import sections_of
from dualfocus_eval.tiny.effect import POPE, SCENES
from tests.analysis.runs import answered, run_of, scene

MMBENCH = "df_mmbench_en_mini"


def pope_run(number: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(3)
    return [(("yes", "no")[a], ("yes", "no")[b]) for a, b in draw.integers(2, size=(number, 2))]


def f1(pairs: list[tuple[str, str]]) -> float:
    hits = pairs.count(("yes", "yes"))
    return 2 * hits / (2 * hits + pairs.count(("yes", "no")) + pairs.count(("no", "yes")))


def test_the_interval_of_f1_is_the_grouped_jackknifes() -> None:
    pairs = pope_run(60)
    run = run_of([
        answered(POPE[0], {"answer": truth, "image_source": f"{i // 2}"}, said, None, doc_id=i, image=f"{i // 2}")
        for i, (truth, said) in enumerate(pairs)
    ])  # fmt: skip
    n, found = metric(run, POPE[0], "f1", "macro")
    assert n == 60
    assert found.value == pytest.approx(100 * f1(pairs))
    without = [f1([pair for i, pair in enumerate(pairs) if i // 2 % GROUPS != group]) for group in range(GROUPS)]
    error = math.sqrt((GROUPS - 1) * np.var(without))
    margin = stats.t.ppf(0.975, GROUPS - 1) * error
    assert (found.low, found.high) == pytest.approx((100 * (f1(pairs) - margin), 100 * (f1(pairs) + margin)))


def test_counts_have_neither_unit_nor_interval_and_unknown_metrics_no_value() -> None:
    run = run_of([answered(SCENES, scene(i, "red"), "" if i < 2 else "red", None, doc_id=i) for i in range(5)])
    found = metrics_of(run, SCENES, ["unanswered", "nothing", "relation"], "macro")
    assert str(found["unanswered"][1]) == "2"
    assert found["nothing"][0] == found["relation"][0] == 0
    assert math.isnan(found["nothing"][1].value)
    assert metric(run, "no_such_task", "accuracy", "macro")[0] == 0


def test_counts_by_any_kind_of_record_are_counts() -> None:
    """MMBench's records are not marked as counted: two of three questions were not asked under both rotations."""
    options = {"question": "What color?", "answer": "A", "A": "red", "B": "blue", "category": "ocr"}
    rows = (4, 1_000_004, 8, 12)
    run = run_of([answered(MMBENCH, {"index": row, **options}, "A", None, doc_id=i) for i, row in enumerate(rows)])
    found = metrics_of(run, MMBENCH, ["incomplete", "unread"], "macro")
    assert [str(number) for _, number in found.values()] == ["2", "0"]


def test_no_interval_leaves_0_to_100() -> None:
    """A jackknife's margin may: 39 of 40 right answers are nearly all, and one group of images has the wrong one."""
    pairs = [("yes", "yes")] * 39 + [("yes", "no")]
    run = run_of([
        answered(POPE[0], {"answer": truth, "image_source": f"{i}"}, said, None, doc_id=i, image=f"{i}")
        for i, (truth, said) in enumerate(pairs)
    ])  # fmt: skip
    _, found = metric(run, POPE[0], "f1", "macro")
    assert found.value < 100
    assert (found.low > 0, found.high) == (True, 100.0)


@pytest.mark.parametrize(("said", "value"), [("yes", 1.0), ("no", 0.0)])
def test_where_every_image_says_the_same_the_interval_is_wilsons(said: str, value: float) -> None:
    run = run_of([
        answered(POPE[0], {"answer": "yes", "image_source": f"{i // 2}"}, said, None, doc_id=i, image=f"{i // 2}")
        for i in range(40)
    ])  # fmt: skip
    expected = rate([value] * 20, range(20))
    _, found = metric(run, POPE[0], "f1", "macro")
    assert (found.value, found.low, found.high) == pytest.approx((100 * value, 100 * expected.low, 100 * expected.high))
    assert found.low < found.high


def rescored(run: Run, scale: Callable[[float], float], aggregate: Callable[[list[Any]], float]) -> Run:
    """The scenes' run, its accuracy on another scale."""
    metrics = {
        choice: [{**found, "accuracy": {"score": scale(found["accuracy"]["score"])}} for found in records if found]
        for choice, records in run.metrics[SCENES].items()
    }
    columns = [f"score_{name}" for name in ("selected", "macro", "micro")]
    answers = run.answers.assign(**{name: run.answers[name].map(scale) for name in columns})
    task = replace_attributes(run.tasks[SCENES], aggregation=lambda: {"accuracy": aggregate})
    return replace(run, metrics={SCENES: metrics}, tasks={SCENES: task}, answers=answers, computed={})


def replace_attributes(task: Any, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(task), **changes})


def scenes_run() -> Run:
    """Of 40 images with a question each, half of them right in macro and three quarters in micro."""
    return run_of([
        answered(SCENES, scene(i, "red"), ("red", "blue")[i % 2], "red" if i % 4 else "blue", doc_id=i, image=f"{i}",
                 nlls=(0.1 + 0.01 * i, 0.3))
        for i in range(40)
    ])  # fmt: skip


def mean_score(records: list[Any]) -> float:
    return fmean(record["score"] for record in records)


def test_a_mean_of_scores_above_1_is_shown_as_it_is_with_students_interval() -> None:
    run = rescored(scenes_run(), lambda score: 1.5 + 0.7 * score, mean_score)
    _, found = metric(run, SCENES, "accuracy", "macro")
    scores = [1.5 + 0.7 * (i % 2 == 0) for i in range(40)]
    low, high = stats.t.interval(0.95, 39, np.mean(scores), stats.sem(scores))
    assert (found.value, found.low, found.high, found.unit) == pytest.approx((1.85, low, high, ""))
    assert str(found) == f"1.85 ({low:.2f} to {high:.2f})"


@pytest.mark.parametrize("weight", [53.7, -17.6])
def test_a_sum_is_shown_as_it_is_and_its_interval_is_not_cut(weight: float) -> None:
    run = rescored(scenes_run(), float, lambda records: weight * sum(record["score"] for record in records))
    _, found = metric(run, SCENES, "accuracy", "macro")
    assert (found.value, found.unit) == (pytest.approx(20 * weight), "")
    assert found.low < found.value < found.high
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_one_score_above_1_takes_the_per_cent_from_every_choice() -> None:
    run = rescored(scenes_run(), lambda score: 1.2 * score, mean_score)
    run.metrics[SCENES]["macro"][:] = [{"accuracy": {"score": 0.5}} for _ in range(40)]
    found = [metric(run, SCENES, "accuracy", choice)[1] for choice in ("macro", "micro")]
    assert [(number.value, number.unit) for number in found] == [(0.5, ""), (pytest.approx(0.9), "")]


def test_a_report_says_of_scores_that_are_no_shares_what_they_are() -> None:
    run = rescored(scenes_run(), lambda score: 3 * score - 1, mean_score)
    sections = {section.name: section for section in sections_of(run)}
    tables = {name: table for section in sections.values() for name, table in section.tables.items()}
    assert tables["strategies"].title == "Strategies"
    for name in ("strategies", "regret", "adaptive", "object_size"):
        cells = [str(cell) for row in tables[name].rows for cell in row if isinstance(cell, Number)]
        assert not [text for text in cells if "nan" in text or len(text.partition(".")[0].strip("-+")) > 3], name
    for name in ("strategies", "regret", "adaptive"):
        assert any(SCENES in note and "not in percent" in note for note in tables[name].notes), name
    assert "calibration" not in tables
    assert "strategies" not in sections["strategies"].figures
    for section in sections.values():
        for drawing in section.figures.values():
            drawing.draw()


def test_an_aggregation_that_empties_its_list_changes_nothing() -> None:
    def taken(records: list[Any]) -> float:
        value = mean_score(records)
        records.clear()
        return value

    run = rescored(scenes_run(), float, taken)
    assert [metric(run, SCENES, "accuracy", choice)[0] for choice in ("macro", "selected", "macro")] == [40] * 3
    assert metric(run, SCENES, "accuracy", "micro")[1].value == pytest.approx(75.0)
