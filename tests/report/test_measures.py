"""The tasks' own metrics with intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from dualfocus_eval.report.effect import POPE, SCENES
from dualfocus_eval.report.measures import GROUPS, metric, metrics_of
from dualfocus_eval.report.statistics import rate
from tests.report.runs import answered, run_of, scene

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
