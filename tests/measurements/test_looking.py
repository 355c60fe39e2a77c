"""The tables of `measurements.where_to_look` and `measurements.sweep_cost`, on made-up runs and costs."""

from __future__ import annotations

import pytest

from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.tiny.effect import SCENES
from measurements import where_to_look
from measurements.sweep_cost import Measured, Spent, table
from measurements.where_to_look import EXPECTED, PARTS, REFERENCE, Expected, Looked, order_table, settings_table
from tests.report.test_sweep import FIRST_RIGHT, LAST_WRONG, QUESTIONS, run_where

CENTER = "center + append_crop"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Looked:
    """The reference gains, and the control does not."""
    monkeypatch.setattr(where_to_look, "TASKS", {SCENES: "scenes"})
    runs = {REFERENCE: run_where(FIRST_RIGHT, LAST_WRONG), CENTER: run_where(FIRST_RIGHT, FIRST_RIGHT)}
    return Looked(SCENES, run_where(FIRST_RIGHT, [None] * QUESTIONS), runs)


def test_settings_beside_macro_answers(found: Looked) -> None:
    (reference, center) = settings_table(found).rows
    assert [str(cell).partition(" (")[0] for cell in reference] == [
        REFERENCE, "18.0", "100.0", "50.0", "90.0", "+40.0", "30", "6", "None", "90.0", "+40.0",
    ]  # fmt: skip
    assert center[6:8] == (0, 0)


def test_the_order_is_judged_by_its_interval(found: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where_to_look, "EXPECTED", (Expected(REFERENCE, ">", CENTER), Expected(CENTER, ">", REFERENCE)))
    right, wrong = order_table([found]).rows
    assert [str(cell).partition(" (")[0] for cell in right] == [
        "text_box > center", "60", "+40.0", "+40.0", "yes", "+40.0", "yes",
    ]  # fmt: skip
    assert wrong[4] == "no"


@pytest.mark.parametrize(
    ("sign", "low", "high", "verdict"),
    [
        (">", 0.01, 0.02, "yes"),
        (">", -0.01, 0.02, "not shown"),
        ("≥", -0.01, 0.02, "yes"),
        ("≥", -0.02, -0.01, "no"),
        ("≈", -0.01, 0.02, "yes"),
        ("≈", 0.01, 0.02, "no"),
    ],
)
def test_verdicts(sign: str, low: float, high: float, verdict: str) -> None:
    assert Expected("a", sign, "b").verdict(Estimate((low + high) / 2, low, high)) == verdict


def test_every_expected_setting_is_run() -> None:
    run = {variant.name for part in PARTS for variant in where_to_look.variants_of(part.grounding, part.second_pass)}
    assert {expected.first for expected in EXPECTED} | {expected.second for expected in EXPECTED} <= run


def test_cost_beside_separate_runs() -> None:
    shared, second = Spent(1, 100, 10, 20), Spent(1, 50, 5, 5)
    alone = (shared + second) * 5
    images, tokens, *_ = table(Measured(shared + second * 5, alone, alone - shared * 4), "").rows
    assert [str(cell) for cell in images] == ["images encoded", "10", "6", "0.60", "0.60"]
    assert [str(cell) for cell in tokens] == ["tokens computed", "750", "350", "0.47", "0.47"]
