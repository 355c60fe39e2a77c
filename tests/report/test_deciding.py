"""The perplexities that are shown are those that decided."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from dualfocus_eval.common.tables import Number
from dualfocus_eval.method.selection import RULES, candidates_of, label_of, picks
from dualfocus_eval.method.selection.deciding import lower_nll
from dualfocus_eval.report.sections.questions import question_section
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import ContextScores, Decision
from tests.analysis.runs import Answered, answered, run_of, scene

VALUES = (0.1, 0.5, 0.9)
PLACES = [(own, micro) for own in VALUES for micro in VALUES if own != micro]


def disagreements() -> list[Answered]:
    """Questions whose pathways and contexts contradict each other in every way; micro is right."""
    rows = []
    for number, (own, rescored) in enumerate((one, other) for one in PLACES for other in PLACES):
        row = answered(SCENES, scene(number, "red"), "blue", "red", doc_id=number, image=f"{number}", nlls=own)
        scores = ContextScores("answer", (-rescored[0],) * 3, (-rescored[1],) * 2)
        trace = replace(row.trace, scores=scores)
        candidates = candidates_of(trace)
        assert candidates
        picked = picks(candidates)
        rows.append(replace(row, trace=replace(trace, picks=picked, selected=picked["own_context"])))
    return rows


def shown(rows: list[Answered], rule: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    table = question_section(run_of(rows, rule)).tables["questions"]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows], table.notes


@pytest.mark.parametrize("rule", list(RULES.items))
def test_what_is_selected_has_the_lower_of_the_perplexities_shown(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualfocus_eval.report.sections.questions._EACH", 100)
    monkeypatch.setattr("dualfocus_eval.report.sections.questions._PICTURES", 0)
    rows, notes = shown(disagreements(), rule)
    assert len(rows) == len(PLACES) ** 2
    for row in rows:
        assert row["decided by"] == "perplexity"
        assert lower_nll(row["PPL macro"].value, row["PPL micro"].value) == row["selected"]
    assert notes[-1].startswith(f"Rule {rule}: ")
    assert str(label_of(rule)) in notes[-1]


@pytest.mark.parametrize(
    ("decision", "words"),
    [(Decision.ONLY_VALID_OPTION, "only one names an option"), (Decision.AGREEMENT, "same answer")],
)
def test_where_something_else_decided_no_perplexity_is_shown(decision: Decision, words: str) -> None:
    row = answered(SCENES, scene(1, "red"), "blue", "red", nlls=(0.1, 0.9))
    (found,), _ = shown([replace(row, trace=replace(row.trace, decision=decision))], "own_context")
    assert (found["decided by"], found["selected"]) == (words, "micro")
    assert all(isinstance(cell, Number) and math.isnan(cell.value) for cell in (found["PPL macro"], found["PPL micro"]))
