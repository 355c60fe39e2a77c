"""Who is right, and what perplexity says of it, in runs where some questions have no micro answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Number
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.confidence import confidence_section
from dualfocus_eval.report.sections.selection import selection_section
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import Decision
from tests.analysis.runs import Answered, answered, run_of, scene


def shown(section: Section, name: str) -> list[dict[str, Any]]:
    """The rows of a table, without the stars of headings."""
    table = section.tables[name]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def agreed(number: int, *, two: bool, kind: str = "mark_color") -> Answered:
    """A question whose candidates are both right, or whose macro answer alone is."""
    row = answered(SCENES, scene(number, "red", kind=kind), "red", "red" if two else None, doc_id=number,
                   image=f"{number}")  # fmt: skip
    return replace(row, trace=replace(row.trace, decision=Decision.AGREEMENT)) if two else row


@pytest.mark.parametrize(("with_box", "same"), [(0, math.nan), (3, 100.0)])
def test_the_same_answer_is_a_share_of_the_questions_with_two(with_box: int, same: float) -> None:
    run = run_of([agreed(i, two=i < with_box) for i in range(8)])
    (row,) = shown(selection_section(run), "split")
    assert (row["n"], row["both right"].value, row["with two answers"]) == (8, 100.0, with_box)
    assert row["same answer"].value == pytest.approx(same, nan_ok=True)


def test_a_category_without_micro_answers_is_a_row_of_none() -> None:
    kinds = ("mark_color", "object_color")
    run = run_of([agreed(i, two=i % 2 == 0, kind=kinds[i % 2]) for i in range(8)])
    section = confidence_section(run)
    rows = {(row["category"], row["pathway"]): row for row in shown(section, "perplexity")}
    assert {place: row["n"] for place, row in rows.items()} == {
        ("all", "macro"): 8, ("mark_color", "macro"): 4, ("object_color", "macro"): 4,
        ("all", "micro"): 4, ("mark_color", "micro"): 4, ("object_color", "micro"): 0,
    }  # fmt: skip
    assert str(rows["object_color", "micro"]["median"]) == ""
    section.figures["perplexity"].draw()


def ranked(right: int, wrong: int) -> Run:
    """Right and wrong macro answers, each about its own image; NLLs that tell some of them apart."""
    return run_of([
        answered(SCENES, scene(i, "red"), "red" if i < right else "blue", None, doc_id=i, image=f"{i}",
                 nlls=(0.01 * (i * 37 % 60) + 0.1 * (i >= right), 0.5))
        for i in range(right + wrong)
    ])  # fmt: skip


def calibrated(run: Run) -> Number:
    (row,) = shown(confidence_section(run), "calibration")
    found: Number = row["AUROC %"]
    return found


def test_auroc_has_an_interval_over_images() -> None:
    run = ranked(30, 30)
    found, nll = calibrated(run), run.answers["macro_nll"].to_numpy()
    reference = stats.mannwhitneyu(-nll[:30], -nll[30:]).statistic / 900
    assert found.value == pytest.approx(100 * reference)
    assert 0 <= found.low < found.value < found.high <= 100


@pytest.mark.parametrize(("right", "wrong", "known"), [(9, 30, False), (30, 9, False), (10, 30, True), (1, 255, False)])
def test_auroc_of_few_right_or_few_wrong_answers_is_left_out(right: int, wrong: int, *, known: bool) -> None:
    assert math.isnan(calibrated(ranked(right, wrong)).value) != known
