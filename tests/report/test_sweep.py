"""The tables and the figure of a sweep, against counts made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.sweeping import cost_of, effects_of, pareto_front
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.sections.cost import cost_section
from dualfocus_eval.report.sections.sweep import sweep_sections
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import Cost
from tests.analysis.runs import Answered, answered, run_of, scene

REFERENCE = "text_box + append_crop"
OTHER = "other"
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


def test_a_setting_that_leaves_out_a_task_has_no_numbers_there(
    macro: Run, runs: dict[str, Run], tmp_path: Path
) -> None:
    of_all = {"truth + append_crop": runs[REFERENCE], REFERENCE: of_two_tasks(runs[REFERENCE])}
    write_report(tmp_path, "Sweep", sweep_sections(of_two_tasks(macro), of_all, REFERENCE))
    tables = {path.stem: json.loads(path.read_text())["rows"] for path in (tmp_path / "tables").glob("*.json")}
    assert [row["setting"] for row in tables["micro_differences"]] == ["macro (% right)", *of_all]
    assert [row[OTHER] is None for row in tables["micro_differences"]] == [False, True, False]
    assert [row["setting"] for row in tables["cost"] if row["task"] == OTHER] == ["macro", REFERENCE]
    assert [row["setting"] for row in tables["cost"] if row["task"] == SCENES] == ["macro", *of_all]
    assert (tmp_path / "figures" / "accuracy_and_cost.png").is_file()


def of_two_tasks(run: Run) -> Run:
    """The same questions once more, as another task's."""
    again = run.answers.assign(task=OTHER, key=run.answers["key"].str.replace(SCENES, OTHER))
    return replace(run, answers=pd.concat([again, run.answers], ignore_index=True), computed={})


def test_servers_count_neither_images_nor_time() -> None:
    macro = run_of([costing(server=2.0)], base_url=["http://localhost"])
    cost = sweep_sections(macro, {REFERENCE: macro}, REFERENCE)[-1].tables["cost"]
    assert [row[3] for row in cost.sections[0]] == [None, None]
    assert [row[-1] for row in cost.sections[0]] == [None, None]
    assert "Servers count neither images nor time." in cost.notes


def test_the_seconds_of_a_detector_count() -> None:
    run = run_of([costing(decode=0.5, detector=2.0)])
    assert cost_of(run, SCENES).seconds == 2.5
    assert [row[0] for row in cost_section(run).tables["time"].sections[0]][-2:] == ["detector", "all phases"]


def costing(**seconds: float) -> Answered:
    """A question that took so many seconds in each phase."""
    asked = answered(SCENES, scene(0, "red"), "blue", "red")
    return replace(asked, trace=replace(asked.trace, cost=Cost(1, 2, 9, 4, 3, 0, seconds)))


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
        ([(nan, 1), (2, 2), (1, nan), (1, 1)], [3, 1]),
        ([], []),
    ],
)
def test_the_pareto_front(points: Sequence[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front
