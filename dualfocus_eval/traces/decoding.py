"""Decoded JSON as the dataclass that it was made from, every value checked against the dataclass's annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["LARGEST", "decoder"]

LARGEST = 2**53
"""Numbers beyond it are damage: integers stop being exact as floats there, and sums of greater ones overflow."""

T = TypeVar("T")
Decode = Callable[[Any], Any]


def decoder(kind: type[T]) -> Callable[[Any], T]:
    """A function that makes a ``kind`` of what `json.loads` returned; made once, it is fast.

    It knows str, bool, int, float, Any, ``X | None``, Literal, StrEnum, ``tuple[X, ...]``, Mapping and dataclasses of
    them. A null in a tuple of floats is NaN. A field with a default may be missing. The function raises KeyError,
    TypeError or ValueError, naming the field.
    """
    return _dataclass(kind) if is_dataclass(kind) else _decode(kind)


def _decode(hint: Any) -> Decode:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Literal:
        return _one_of({choice: choice for choice in arguments})
    if origin is tuple:
        return _numbers(arguments[0]) if arguments[0] in (int, float) else _items(_decode(arguments[0]))
    if origin is Mapping:
        return _mapping(*map(_decode, arguments))
    if type(None) in arguments:
        return _optional(_decode(arguments[0]))
    if issubclass(hint, StrEnum):
        return _one_of({choice.value: choice for choice in hint})
    return _dataclass(hint)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r:.60} is not a text")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r:.60} is not true or false")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -LARGEST <= value <= LARGEST:
        raise TypeError(f"{value!r:.60} is not an integer of sane size")
    return value


def _number(value: Any) -> float:
    if type(value) not in (float, int) or not -LARGEST <= value <= LARGEST:
        raise TypeError(f"{value!r:.60} is not a number of sane size")
    return value  # type: ignore[no-any-return]


_PLAIN: Mapping[Any, Decode] = {str: _text, bool: _flag, int: _integer, float: _number}


def _numbers(kind: type[int] | type[float]) -> Decode:
    one = _PLAIN[kind]

    def decode(values: Any) -> tuple[Any, ...]:
        # Most of a trace is numbers: those of a whole list are checked at once.
        if set(map(type, _list(values))) == {kind} and min(values) >= -LARGEST and max(values) <= LARGEST:
            return tuple(values)
        return tuple(math.nan if value is None and kind is float else one(value) for value in values)

    return decode


def _list(values: Any) -> list[Any]:
    if type(values) is not list:
        raise TypeError(f"{values!r:.60} is not a list")
    return values


def _items(decode: Decode) -> Decode:
    return lambda values: tuple([decode(value) for value in _list(values)])


def _optional(decode: Decode) -> Decode:
    return lambda value: None if value is None else decode(value)


def _one_of(choices: Mapping[str, Any]) -> Decode:
    def decode(value: Any) -> Any:
        try:
            return choices[value]
        except (KeyError, TypeError):
            raise ValueError(f"{value!r:.60} is not one of: {', '.join(choices)}") from None

    return decode


def _mapping(decode_name: Decode, decode_value: Decode) -> Decode:
    def decode(value: Any) -> dict[Any, Any]:
        return {decode_name(name): decode_value(item) for name, item in _object(value).items()}

    return decode


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError(f"{value!r:.60} is not an object")
    return value


def _dataclass(kind: Any) -> Decode:
    hints = get_type_hints(kind)
    parts = {field.name: _decode(hints[field.name]) for field in fields(kind)}
    in_order = tuple(parts.items())

    def decode(value: Any) -> Any:
        try:
            if len(value) == len(in_order):
                return kind(*[decode_part(value[name]) for name, decode_part in in_order])
            return kind(**{name: parts[name](item) for name, item in value.items()})
        except (AttributeError, KeyError, TypeError, ValueError):
            _name_the_field(parts, value)
            raise

    return decode


def _name_the_field(parts: Mapping[str, Decode], value: Any) -> None:
    """Raise the error of the first field that is wrong, with its name before it."""
    for name, item in _object(value).items():
        if name not in parts:
            raise TypeError(f"{name}: there is no such field")
        try:
            parts[name](item)
        except (KeyError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: {error}") from None
