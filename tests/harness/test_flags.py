"""lmms-eval's command line: a verdict on every argument, and each does what its verdict says."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.flags import FLAGS, refuse_flags, without_effect
from measurements.lmms_eval_arguments import PAGE, arguments, table

ACTIONS = {action.dest: action for action in arguments()}


def test_every_argument_of_the_installed_lmms_eval_has_a_verdict() -> None:
    assert set(ACTIONS) == set(FLAGS)


def test_the_page_has_the_table() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


def defaults() -> dict[str, Any]:
    return {name: action.default for name, action in ACTIONS.items()}


def a_value(action: argparse.Action) -> Any:
    """One that asks for something."""
    if action.nargs == 0:
        return True
    return action.choices[-1] if action.choices else {int: 3, float: 5.0}.get(action.type, "text")  # type: ignore


def test_a_run_without_flags_is_neither_refused_nor_warned() -> None:
    refuse_flags(defaults())
    assert without_effect(defaults(), ["pope"]) == []


@pytest.mark.parametrize("name", FLAGS)
def test_each_argument_does_what_its_verdict_says(name: str) -> None:
    given = defaults() | {name: a_value(ACTIONS[name])}
    warnings = without_effect(given, ["pope"])
    match FLAGS[name].effect:
        case "refused":
            with pytest.raises(UserError, match=f"--{name} .* is not supported by dualfocus: "):
                refuse_flags(given)
        case "no effect":
            refuse_flags(given)
            assert [line.partition(":")[0] for line in warnings] == [f"--{name} has no effect"]
        case "works":
            refuse_flags(given)
            assert warnings == []


@pytest.mark.parametrize("limit", [0, 0.0, 2.5, -2, -0.5, float("nan"), float("inf"), "two"])
def test_a_limit_that_is_no_number_of_questions_is_refused(limit: Any) -> None:
    with pytest.raises(UserError, match=f"--limit {limit} is neither a whole number"):
        refuse_flags(defaults() | {"limit": limit})


@pytest.mark.parametrize("limit", [None, -1, -1.0, 0.25, 1, 8.0])
def test_a_limit_that_is_one_is_not(limit: Any) -> None:
    refuse_flags(defaults() | {"limit": limit})


def test_no_examples_are_no_fault() -> None:
    refuse_flags({"num_fewshot": 0})


@pytest.mark.parametrize(
    ("given", "tasks", "grouped", "warned"),
    [
        ({"limit": 8.0}, ["circular"], ["circular"], True),
        ({"limit": -1}, ["circular"], ["circular"], False),
        ({"offset": 1}, ["pope", "circular"], ["circular"], True),
        ({"limit": 0.5}, ["pope"], [], False),
        ({"limit": 0.5}, ["pope", "gqa"], [], True),
    ],
)
def test_limits_that_do_not_do_what_they_say_are_warned_of(
    given: dict[str, Any], tasks: list[str], grouped: list[str], warned: bool
) -> None:
    assert bool(without_effect(given, tasks, grouped)) == warned
