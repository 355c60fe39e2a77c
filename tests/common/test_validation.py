"""What a pydantic error becomes for the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.validation import CLOSED, OneOf, allowed, partial, validated

NAMES = ["red", "blue"]
Colour = Annotated[str, OneOf(lambda: NAMES, lambda: {"mauve": "it is sold out"})]


@dataclass(frozen=True, config=CLOSED)
class Inner:
    rank: Annotated[StrictInt, Field(ge=1)]
    rate: Annotated[StrictFloat, Field(ge=0, lt=1)] | None = None


@dataclass(frozen=True, config=CLOSED)
class Outer:
    name: str
    colour: Colour = "red"
    inner: tuple[Inner, ...] = ()
    mix: Mapping[Literal["a", "b"], StrictInt] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "here: expected keys with values, found list"),
        ({}, "here: name is missing"),
        ({"name": ""}, "here: name is empty"),
        ({"name": 3}, "here, name: 3 is not text"),
        ({"name": None}, "here, name: a value is needed"),
        (
            {"nam": "x"},
            "here: unknown key 'nam'. Did you mean name? Known: colour, inner, mix, name, notes. (and 1 more)",
        ),
        ({"name": "x", "colour": "green"}, "here, colour: 'green' is not one of: red, blue"),
        ({"name": "x", "colour": "mauve"}, "here, colour: 'mauve' cannot be used: it is sold out"),
        ({"name": "x", "inner": "y"}, "here, inner: expected a list, found 'y'"),
        ({"name": "x", "inner": [{"rank": 1}, {"rank": 0}]}, "here, inner 2, rank: 0 must be at least 1"),
        ({"name": "x", "inner": [{"rank": 1.0}]}, "here, inner 1, rank: 1.0 is not a whole number"),
        ({"name": "x", "inner": [{"rank": 1, "rate": 1}]}, "here, inner 1, rate: 1 must be at least 0 and below 1"),
        ({"name": "x", "inner": [{"rank": 1, "rate": "2e-5"}]}, "rate: '2e-5' is not a number; write 2.0e-5 for 2e-5"),
        ({"name": "x", "inner": [{"ranks": 1}]}, "here, inner 1: unknown key 'ranks'. Did you mean rank?"),
        ({"name": "x", "mix": {"c": 1}}, "here, mix: unknown key 'c'. Known: a, b."),
        ({"name": "x", 1: 2}, "here: unknown key '1'. Known: colour, inner, mix, name, notes."),
        ({"name": "x", "mix": {1: 1}}, "here, mix: unknown key '1'. Known: a, b."),
        ({"name": "x", "notes": {1: 1}}, "here, notes: key 1 is no text"),
        ({"name": "x", "mix": {"a": True}}, "here, mix, a: True is not a whole number"),
        ({"name": "x" * 200, "colour": "x" * 200}, f"here, colour: '{'x' * 76}... is not one of: red, blue"),
    ],
)
def test_the_first_mistake_is_told_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(UserError) as refused:
        validated(Outer, values, "here")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_are_asked_for_when_a_value_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NAMES", [*NAMES, "green"])
    assert validated(Outer, {"name": "x", "colour": "green"}, "here").colour == "green"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"flag": "true", "count": "3", "text": "'a, b'"}, {"flag": True, "count": 3, "text": "a, b"}),
        ({"flag": False, "count": 3.0, "text": 123}, {"flag": False, "count": 3, "text": "123"}),
        ({"text": "none"}, {"text": None}),
        ({"text": None}, {"text": None}),
        ({}, {}),
    ],
)
def test_texts_of_a_command_line_become_values(given: dict[str, Any], meant: dict[str, Any]) -> None:
    kind = partial("Given", {"flag": bool, "count": int, "text": str | None})
    found: Any = validated(kind, given, "here")
    assert found.model_dump(exclude_unset=True) == meant


def test_what_is_allowed_in_words() -> None:
    assert allowed(Annotated[int, Field(ge=1)] | None) == "a whole number, at least 1, or none"
    assert allowed(Annotated[float, Field(ge=0, lt=1)]) == "a number, at least 0 and below 1"
    assert allowed(Colour) == "one of: red, blue"
