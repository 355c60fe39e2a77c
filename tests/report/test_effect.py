"""The tables of a run whose numbers are known."""

import pytest

from dualfocus_eval.method.boxes import Box
from dualfocus_eval.report.answers import CHOICES, ScoredAnswer
from dualfocus_eval.report.effect import POPE, SCENES, box_iou, box_table, difference_table, run_table, score_table
from dualfocus_eval.report.intervals import mean_of
from dualfocus_eval.report.tables import Table
from tests.report.runs import answered, pope_f1, run_of, scene


def row(table: Table, name: str) -> dict[str, str]:
    (found,) = [cells for rows in table.sections for cells in rows if cells[0] == name]
    return dict(zip(table.header, found, strict=True))


def number(cell: str) -> float:
    return float(cell.partition("±")[0])


@pytest.fixture
def answers() -> list[ScoredAnswer]:
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
            doc_id=i, image=f"{i % 4}", picks={"own": "macro", "micro": "micro", "released": "micro"},
        )
        for i in range(10, 15)
    ]  # fmt: skip
    return details + rest


def test_scores_by_kind_and_level(answers: list[ScoredAnswer]) -> None:
    table = score_table(run_of(answers))
    details, rest, all_ = row(table, "details"), row(table, "global"), row(table, "all")
    assert (details["n"], rest["n"], all_["n"]) == ("10", "5", "15")
    assert [number(details[choice]) for choice in CHOICES] == [20, 70, 70, 70, 70, 70]
    assert [number(rest[choice]) for choice in CHOICES] == [80, 60, 80, 60, 60, 100]
    assert [number(all_[choice]) for choice in CHOICES] == [40, 66.7, 73.3, 66.7, 66.7, 80]
    assert row(table, "mark_color")["micro"] == "70.0"
    assert row(table, "scene") == dict.fromkeys(table.header, "") | {"question": "scene", "n": "0"}
    scores, images = [float(i < 7) for i in range(10)], [str(i % 4) for i in range(10)]
    assert details["micro"] == f"70.0±{100 * mean_of(scores, images).margin:.1f}"


def test_differences_are_paired_and_clustered(answers: list[ScoredAnswer]) -> None:
    table = difference_table(run_of(answers))
    found = row(table, "details: micro - macro")
    estimate = mean_of([float(2 <= i < 7) for i in range(10)], [str(i % 4) for i in range(10)])
    assert (found["n"], found["images"], found["points"]) == ("10", "4", "+50.0")
    assert found["95% interval"] == f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}"
    assert row(table, "all: own rule - macro")["points"] == "+33.3"
    assert row(table, "all: own rule - micro")["points"] == "+6.7"
    assert row(difference_table(run_of(answers, "micro")), "all: micro rule - micro")["points"] == "+0.0"


def test_f1_is_the_tasks_own() -> None:
    answers = [
        answered(
            POPE[0], {"answer": truth, "image_source": f"{i % 3}"}, macro, micro, doc_id=i, image=f"{i % 3}",
            picks={"own": "macro", "micro": "micro", "released": "micro"},
        )
        for i, (truth, macro, micro) in enumerate(
            [("yes", "yes", "yes"), ("no", "yes", "no"), ("yes", "no", "yes"), ("no", "no", "no"), ("yes", "yes", "no")]
        )
    ]  # fmt: skip
    found = row(score_table(run_of(answers)), "F1 random")
    # macro: 2 hits, 1 false alarm, 1 miss; micro: 2 hits, 1 miss; oracle: all right.
    assert [number(found[choice]) for choice in CHOICES] == [66.7, 80, 66.7, 80, 80, 100]
    assert "±" in found["macro"]
    assert pope_f1([answer.metrics["micro"]["f1"] for answer in answers]) == pytest.approx(0.8)


def test_boxes_are_compared_in_fractions_of_the_image() -> None:
    # The document's box is 40..120 of 400 by 20..100 of 200.
    exact = answered(SCENES, scene(0, "red"), "a", "b", box=Box(0.1, 0.1, 0.3, 0.5))
    half = answered(SCENES, scene(1, "red"), "a", "b", box=Box(0.1, 0.1, 0.18, 0.5), image="other")
    none = answered(SCENES, scene(2, "red"), "a", None)
    assert [box_iou(answer) for answer in (exact, half, none)] == pytest.approx([1, 0.4, 0])
    found = row(box_table([exact, half, none]), "details")
    assert found["parsed %"] == "66.7"
    assert number(found["mean IoU"]) == 0.47
    assert found["IoU > 0.5 %"] == "33.3"


def test_the_run_names_its_rule_and_its_cost(answers: list[ScoredAnswer]) -> None:
    table = run_table(run_of(answers, "released"))
    assert row(table, "deciding rule")["value"] == "released (from: recipe)"
    assert row(table, "checkpoint")["value"] == "checkpoint"
    assert row(table, "questions")["value"] == "15"
    assert row(table, "images")["value"] == "4"
    assert row(table, "wall time")["value"] == "12 s"
