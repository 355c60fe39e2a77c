"""The tables and the figure of a sweep, against counts made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.sweeping import cost_of, effects_of, pareto_front
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.sections.sweep import sweep_sections
from dualfocus_eval.tiny.effect import SCENES
from tests.analysis.runs import answered, run_of, scene

REFERENCE = "text_box + append_crop"
WRONG_TO_RIGHT, RIGHT_TO_WRONG = 30, 6
QUESTIONS = 60


def run_where(macro: Sequence[bool], micro: Sequence[bool | None]) -> Run:
    """A run whose answers are right as it says; None: no micro answer. Two questions show the same image."""
    words = {True: "red", False: "blue", None: None}
    return run_of(
        [
            answered(
                SCENES, scene(place, "red"), str(words[one]), words[two], doc_id=place, image=f"image {place // 2}"
            )
            for place, (one, two) in enumerate(zip(macro, micro, strict=True))
        ]
    )


FIRST_RIGHT = [place >= WRONG_TO_RIGHT for place in range(QUESTIONS)]
LAST_WRONG = [place < QUESTIONS - RIGHT_TO_WRONG for place in range(QUESTIONS)]


@pytest.fixture(scope="module")
def macro() -> Run:
    return run_where(FIRST_RIGHT, [None] * QUESTIONS)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """The reference, and a control that gains every second of its questions and harms the same."""
    every_second = [(right or place % 2 == 0) and LAST_WRONG[place] for place, right in enumerate(FIRST_RIGHT)]
    return {
        REFERENCE: run_where(FIRST_RIGHT, LAST_WRONG),
        "center + append_crop": run_where(FIRST_RIGHT, every_second),
    }


def test_gain_harm_and_what_is_left_of_the_gain(macro: Run, runs: dict[str, Run]) -> None:
    reference, center = effects_of(macro, runs, "micro", REFERENCE)[SCENES]
    test = reference.comparison.test
    assert (test.better, test.worse) == (WRONG_TO_RIGHT, RIGHT_TO_WRONG)
    assert reference.comparison.difference.value == pytest.approx((WRONG_TO_RIGHT - RIGHT_TO_WRONG) / QUESTIONS)
    assert reference.remaining is None
    assert (center.comparison.test.better, center.comparison.test.worse) == (WRONG_TO_RIGHT // 2, RIGHT_TO_WRONG)
    assert center.remaining
    assert center.remaining.value == pytest.approx((15 - 6) / (30 - 6))
    assert center.remaining.low < center.remaining.value < center.remaining.high < 1
    assert center.comparison.p_adjusted >= center.comparison.test.p_two_sided


def test_nothing_is_said_to_be_left_of_a_gain_that_may_be_chance(macro: Run, runs: dict[str, Run]) -> None:
    without_gain = run_where(FIRST_RIGHT, [not right for right in FIRST_RIGHT])
    swapped = {REFERENCE: without_gain, "center + append_crop": runs[REFERENCE]}
    assert [effect.remaining for effect in effects_of(macro, swapped, "micro", REFERENCE)[SCENES]] == [None, None]


def test_the_page_has_tables_and_figure(macro: Run, runs: dict[str, Run], tmp_path: Path) -> None:
    sections = sweep_sections(macro, runs, REFERENCE)
    write_report(tmp_path, "Sweep", sections)
    shown = json.loads((tmp_path / "tables" / "micro_gain_and_harm.json").read_text())["rows"]
    assert [(row["setting"], row["wrong to right"], row["right to wrong"]) for row in shown] == [
        (REFERENCE, 30, 6),
        ("center + append_crop", 15, 6),
    ]
    assert shown[1]["left of the gain %"]["value"] == pytest.approx(37.5)
    overview = (tmp_path / "tables" / "micro_differences.csv").read_text().splitlines()
    assert overview[0] == f"setting,{SCENES},{SCENES} low,{SCENES} high"
    assert [line.partition(",")[0] for line in overview[1:]] == ["macro (% right)", REFERENCE, "center + append_crop"]
    assert (tmp_path / "figures" / "accuracy_and_cost.png").stat().st_size > 10_000
    assert "Pareto front" in (tmp_path / "index.html").read_text()
    assert {"selected_differences", "cost"} <= {path.stem for path in (tmp_path / "tables").iterdir()}


def test_runs_without_costs_have_none(macro: Run) -> None:
    cost: Any = cost_of(macro, SCENES)
    assert cost.questions == 0
    assert cost.tokens != cost.tokens


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 1), (2, 2), (3, 1.5), (2, 1)], [0, 1]),
        ([(2, 5), (1, 5), (1, 4)], [1]),
        ([(3, 1), (2, 2), (1, 3)], [2]),
        ([], []),
    ],
)
def test_the_pareto_front(points: Sequence[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front
