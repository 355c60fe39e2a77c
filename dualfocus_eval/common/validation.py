"""Values from files and command lines as typed objects: pydantic checks them, this module words what is wrong.

It is the only place where a ``ValidationError`` becomes a message for the user: one line with the place, the key's
whole path, the value, and what is allowed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import did_you_mean, unknown_name
from dualfocus_eval.common.text import is_number

__all__ = ["CLOSED", "OneOf", "allowed", "choices_of", "partial", "validated"]

CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
"""For what users write: no unknown keys, no NaN, and the docstring under a field describes it."""

T = TypeVar("T")
Location = tuple[str | int, ...]

_LONGEST = 80
"""Characters of a value in a message."""
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument", "invalid_key")
_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple[str, ...]: "texts with commas between them",
}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_OUT_OF_BOUNDS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "finite_number")


@dataclass(frozen=True)
class OneOf:
    """Constrains a text to the names of a mapping or registry, which is asked anew for every value.

    Give it a name of its own, ``Colour = Annotated[str, OneOf(lambda: COLOURS)]``: in a field's annotation, which is a
    text until it is evaluated elsewhere, the lambda would not find what it refers to.
    """

    names: Callable[[], Iterable[str]]
    missing: Callable[[], Mapping[str, str]] = dict
    """Names that would be allowed, and why each cannot be used."""
    accepts: Callable[[str], bool] = lambda value: False
    """What is allowed beside the names."""
    besides: str = ""
    """The same in words, for messages and documentation."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, value: str) -> str:
        names = list(self.names())
        if value in names or self.accepts(value):
            return value
        if value in (missing := self.missing()):
            raise ValueError(f"{value!r} cannot be used: {missing[value]}")
        raise ValueError(_not_one_of(value, [*names, *filter(None, [self.besides])]))


def validated(kind: type[T], values: Any, where: str) -> T:
    """The ``kind`` (a pydantic model or dataclass) that decoded YAML or JSON describes.

    Raises ``UserError`` for the first mistake, with ``where`` it stands.
    """
    try:
        found: T = _adapter(kind).validate_python(values)  # type: ignore[arg-type]  # classes are hashable
    except ValidationError as error:
        raise _mistake(error, kind, where) from None
    return found


def partial(name: str, types: Mapping[str, Any]) -> type[BaseModel]:
    """A closed model with fields of ``types``, none of them required: what one of several sources of settings may say.

    Values may be texts, as from a command line. ``model_fields_set`` names the fields that were given.
    """
    fields: dict[str, Any] = {key: (hint, None) for key, hint in types.items()}
    validators: dict[str, Any] = {"from_text": field_validator("*", mode="before")(_from_text)}
    config = CLOSED | ConfigDict(coerce_numbers_to_str=True, frozen=True)
    return create_model(name, __config__=config, __validators__=validators, **fields)


def _from_text(value: Any) -> Any:
    """What a command line or YAML means: "none" is None, quotes around a text are not part of it."""
    if isinstance(value, bool):
        return str(value)  # or pydantic would take it for a number
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "null"):
        return None
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _mistake(error: ValidationError, kind: type[Any], where: str) -> UserError:
    """The first mistake of ``error`` in one line, and how many more there are; an unknown key comes first."""
    found = sorted(error.errors(include_url=False), key=lambda entry: entry["type"] not in _UNKNOWN)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return UserError(_told(found[0], kind, where) + more)


def _told(entry: Mapping[str, Any], kind: type[Any], where: str) -> str:
    location: Location = entry["loc"]
    named_in_mapping = bool(location) and location[-1] == "[key]"
    if named_in_mapping or entry["type"] in _UNKNOWN:
        *parents, name = location[:-1] if named_in_mapping else location
        known = _keys(_bare(_hint_at(kind, tuple(parents))))
        wrong = unknown_name(name, known, "key") if known else f"key {name} is no text"
        return f"{_place(where, tuple(parents))}: {wrong}"
    if entry["type"] == "missing":
        return f"{_place(where, location[:-1])}: {location[-1]} is missing"
    return f"{_place(where, location)}: {_reason(entry, _hint_at(kind, location))}"


def _keys(bare: Any) -> Sequence[str]:
    """The keys that a model or a mapping may have; none where any text is a key."""
    return choices_of(get_args(bare)[0]) if get_origin(bare) in (dict, Mapping) else list(get_type_hints(bare))


def _place(where: str, location: Location) -> str:
    """``where``, then the keys that lead there; entries of a list are counted from 1: ``stages 2, lora, rank``."""
    steps = [f" {step + 1}" if isinstance(step, int) else f", {step}" for step in location]
    return where + "".join(steps)


def _reason(entry: Mapping[str, Any], hint: Any) -> str:
    value, bare = entry["input"], _bare(hint)
    shown = _shown(value)
    if value is None:
        return "a value is needed"
    if entry["type"] == "value_error":
        return str(entry["ctx"]["error"])
    if choices := choices_of(hint):
        return _not_one_of(value, choices)
    if entry["type"] in _OUT_OF_BOUNDS:
        finite = ["a finite number"] if entry["type"] == "finite_number" else []
        return f"{shown} must be {' and '.join([*finite, *_bounds(hint)])}"
    if get_origin(bare) is tuple:
        return f"expected a list, found {shown}"
    if bare in _KINDS:
        # YAML takes 2e-5 for text: a float needs a point in it.
        slip = bare is float and isinstance(value, str) and "e" in value.lower() and is_number(value)
        return f"{shown} is not {_KINDS[bare]}" + ("; write 2.0e-5 for 2e-5" if slip else "")
    return f"expected keys with values, found {type(value).__name__}"


def _not_one_of(value: Any, names: Sequence[str]) -> str:
    near = did_you_mean(value, names)
    return f"{_shown(value)} is not one of: {', '.join(names)}{'.' if near else ''}{near}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def allowed(hint: Any) -> str:
    """The values of an annotated type in words, for documentation: ``a whole number, at least 1, or none``."""
    choices = choices_of(hint)
    besides = [entry.besides for entry in _constraints(hint) if isinstance(entry, OneOf) and entry.besides]
    named = ["one of: " + ", ".join([*choices, *besides])]
    words = named if choices else [_KINDS[_bare(hint)], " and ".join(_bounds(hint))]
    return ", ".join([word for word in words if word] + ["or none"] * (NoneType in get_args(hint)))


def _bounds(hint: Any) -> Iterator[str]:
    for entry in _constraints(hint):
        if type(entry) in _BOUNDS:
            name, words = _BOUNDS[type(entry)]
            yield f"{words} {getattr(entry, name)}"


def choices_of(hint: Any) -> Sequence[str]:
    """The allowed values of a hint that lists them, else none."""
    bare = _bare(hint)
    if get_origin(bare) is Literal:
        return [str(choice) for choice in get_args(bare)]
    if isinstance(bare, type) and issubclass(bare, Enum):
        return [str(choice.value) for choice in bare]
    return next((list(entry.names()) for entry in _constraints(hint) if isinstance(entry, OneOf)), ())


def _constraints(hint: Any) -> Iterator[Any]:
    """What ``Annotated`` adds to a type."""
    plain = _optional(hint)
    for entry in get_args(plain)[1:] if get_origin(plain) is Annotated else ():
        yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)


def _hint_at(kind: Any, location: Location) -> Any:
    """The type that is annotated where an error lies, with its constraints."""
    for step in location:
        bare = _bare(kind)
        if get_origin(bare) in (tuple, list):
            kind = get_args(bare)[0]
        elif get_origin(bare) in (dict, Mapping):
            kind = get_args(bare)[1]
        else:
            kind = get_type_hints(bare, include_extras=True)[str(step)]
    return kind


def _optional(hint: Any) -> Any:
    """``hint`` without its None."""
    arguments = get_args(hint)
    return next(kind for kind in arguments if kind is not NoneType) if NoneType in arguments else hint


def _bare(hint: Any) -> Any:
    """``hint`` without None and without constraints."""
    while (plain := _optional(hint.__origin__ if get_origin(hint) is Annotated else hint)) is not hint:
        hint = plain
    return hint
