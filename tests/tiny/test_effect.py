"""The tables of a run whose numbers are known."""

import numpy as np
import pytest

from dualfocus_eval.analysis.measures import points, rate
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.sections.boxes import truth_overlap
from dualfocus_eval.tiny.effect import POPE, SCENES, box_table, difference_table, run_table, score_table, summary_table
from tests.analysis.runs import Answered, answered, run_of, scene

CHOICES = ("macro", "micro", "own_context", "micro_context", "released", "oracle")


def row(table: Table, name: str) -> dict[str, Cell]:
    (found,) = [cells for cells in table.rows if cells[0] == name]
    return dict(zip(table.header, found, strict=True))


def number(cell: Cell) -> float:
    assert isinstance(cell, Number)
    return round(cell.value, 1)


@pytest.fixture(scope="module")
def answers() -> list[Answered]:
    """Ten details, of which macro has 2 and micro 7, and five global questions, of which macro has 4 and micro 3."""
    details = [
        answered(
            SCENES, scene(i, "red"), "red" if i < 2 else "blue", "red" if i < 7 else "blue", doc_id=i, image=f"{i % 4}"
        )
        for i in range(10)
    ]
    rest = [
        answered(
            SCENES, scene(i, "3", kind="count", level="global"), "3" if i < 14 else "4", "3" if i > 11 else "9",
            doc_id=i, image=f"{i % 4}", picks={"own_context": "macro", "micro_context": "micro", "released": "micro"},
        )
        for i in range(10, 15)
    ]  # fmt: skip
    return details + rest


def test_scores_by_kind_and_level(answers: list[Answered]) -> None:
    run = run_of(answers)
    table = score_table(run)
    details, rest, all_ = row(table, "details"), row(table, "global"), row(table, "all")
    assert (details["n"], rest["n"], all_["n"]) == (10, 5, 15)
    assert [number(details[choice]) for choice in CHOICES] == [20, 70, 70, 70, 70, 70]
    assert [number(rest[choice]) for choice in CHOICES] == [80, 60, 80, 60, 60, 100]
    assert [number(all_[choice]) for choice in CHOICES] == [40, 66.7, 73.3, 66.7, 66.7, 80]
    assert str(row(table, "mark_color")["micro"]) == "70.0"
    assert row(table, "scene")["n"] == 0
    assert str(row(table, "scene")["macro"]) == ""
    assert details["micro"] == rate([float(i < 7) for i in range(10)], run.answers["cluster"].iloc[:10])


def test_the_summary_has_the_scores_of_one_pass_and_of_two(answers: list[Answered]) -> None:
    run = run_of(answers)
    for level in ("details", "global", "all"):
        short, full = row(summary_table(run), level), row(score_table(run), level)
        assert (short["n"], short["one pass (macro)"], short["oracle"]) == (full["n"], full["macro"], full["oracle"])
        assert short["two passes (selected)"] == full[run.settings["selection"]]


def test_differences_are_paired_and_clustered(answers: list[Answered]) -> None:
    run = run_of(answers)
    table = difference_table(run)
    found = row(table, "details: micro - macro")
    assert (found["n"], found["images"], number(found["points"])) == (10, 4, 50)
    assert found["points"] == points(
        np.zeros(10), np.array([float(2 <= i < 7) for i in range(10)]), run.answers["cluster"].iloc[:10]
    )
    assert number(row(table, "all: own_context - macro")["points"]) == 33.3
    assert number(row(table, "all: own_context - micro")["points"]) == 6.7
    assert number(row(difference_table(run_of(answers, "micro_context")), "all: micro_context - micro")["points"]) == 0


def test_f1_is_the_tasks_own() -> None:
    answers = [
        answered(
            POPE[0], {"answer": truth, "image_source": f"{i % 3}"}, macro, micro, doc_id=i, image=f"{i % 3}",
            picks={"own_context": "macro", "micro_context": "micro", "released": "micro"},
        )
        for i, (truth, macro, micro) in enumerate(
            [("yes", "yes", "yes"), ("no", "yes", "no"), ("yes", "no", "yes"), ("no", "no", "no"), ("yes", "yes", "no")]
        )
    ]  # fmt: skip
    found = row(score_table(run_of([*answers, answered(SCENES, scene(1, "red"), "red", "red")])), "F1 random")
    # macro: 2 hits, 1 false alarm, 1 miss; micro: 2 hits, 1 miss; oracle: all right.
    assert [number(found[choice]) for choice in CHOICES] == [66.7, 80, 66.7, 80, 80, 100]


def test_boxes_are_compared_in_fractions_of_the_image() -> None:
    # The document's box is 40..120 of 400 by 20..100 of 200.
    exact = answered(SCENES, scene(0, "red"), "a", "b", box=Box(0.1, 0.1, 0.3, 0.5), doc_id=0)
    half = answered(SCENES, scene(1, "red"), "a", "b", box=Box(0.1, 0.1, 0.18, 0.5), image="other", doc_id=1)
    none = answered(SCENES, scene(2, "red"), "a", None, doc_id=2)
    run = run_of([exact, half, none])
    assert truth_overlap(run.answers).tolist() == pytest.approx([1, 0.4, 0])
    found = row(box_table(run), "details")
    assert number(found["parsed %"]) == 66.7
    assert str(found["mean IoU"]).startswith("0.47 (")
    assert number(found["IoU > 0.5 %"]) == 33.3


def test_the_run_names_its_rule_and_its_cost(answers: list[Answered]) -> None:
    table = run_table(run_of(answers, "released"))
    assert row(table, "deciding rule")["value"] == "released (from: recipe)"
    assert row(table, "checkpoint")["value"] == "checkpoint"
    assert row(table, "questions")["value"] == "15"
    assert row(table, "images")["value"] == 4
    assert row(table, "wall time")["value"] == "12 s"
