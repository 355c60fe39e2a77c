"""Parts of a recipe as dataclasses, checked key by key; imports nothing heavy."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown

__all__ = ["typed"]

T = TypeVar("T")


def typed(kind: type[T], values: Any, where: str) -> T:
    """The dataclass ``kind`` of a mapping, its fields checked by their annotated types.

    Raises ``UserError`` naming the key that is unknown, missing or of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys with values, found {type(values).__name__}")
    entries = fields(cast(Any, kind))
    refuse_unknown(values, [entry.name for entry in entries], where, "key")
    needed = [entry.name for entry in entries if entry.default is MISSING and entry.default_factory is MISSING]
    lacking = [name for name in needed if name not in values]
    if lacking:
        raise UserError(f"{where}: {lacking[0]} is missing")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}, {key}") for key, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is types.UnionType:
        return None if value is None else _value(get_args(hint)[0], value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, found {value!r}")
        place = "{} {}".format
        return tuple(_value(get_args(hint)[0], entry, place(where, number)) for number, entry in enumerate(value, 1))
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected keys with values, found {type(value).__name__}")
        return {key: _value(get_args(hint)[1], entry, f"{where}, {key}") for key, entry in value.items()}
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UserError(f"{where}: {value!r} is not one of: {', '.join(get_args(hint))}")
        return value
    if hint in (bool, str, int, float):
        return _scalar(hint, value, where)
    return typed(hint, value, where)


_NAMES = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}


def _scalar(kind: type[Any], value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    # YAML takes 2e-5 for text: a float needs a point in it.
    hint = "; write 2.0e-5 for 2e-5" if kind is float and isinstance(value, str) and "e" in value.lower() else ""
    raise UserError(f"{where}: {value!r} is not {_NAMES[kind]}{hint}")
