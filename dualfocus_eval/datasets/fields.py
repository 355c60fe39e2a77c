"""Values of official records by their types: whatever is of another one is named, and never turned into text.

``str`` would make prompts and right answers of it: ``None``, ``['a']``, ``True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FieldError", "identifier", "mapping", "optional_text", "required", "text", "texts"]


_JSON_TYPES: Mapping[type, str] = {
    str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"
}  # fmt: skip


class FieldError(ValueError):
    """A value that is missing or of another type than the release's; the message names it."""


def required(record: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ``FieldError`` naming those of ``names`` that are not there, null or blank."""
    missing = [name for name in names if record.get(name) is None or not str(record[name]).strip()]
    if missing:
        raise FieldError(f"lacks {', '.join(missing)}")


def text(record: Mapping[str, Any], name: str) -> str:
    """A text. Raises ``FieldError``."""
    value = record.get(name)
    if not isinstance(value, str):
        raise _other(name, value, "text")
    return value


def optional_text(record: Mapping[str, Any], name: str) -> str | None:
    """A text, or None where it is missing or null. Raises ``FieldError``."""
    return None if record.get(name) is None else text(record, name)


def identifier(record: Mapping[str, Any], name: str) -> str:
    """An id, which releases write as text or as a whole number. Raises ``FieldError``."""
    value = record.get(name)
    if type(value) is int:  # not isinstance, for which true and false are numbers
        return str(value)
    if not isinstance(value, str):
        raise _other(name, value, "text or a whole number")
    return value


def texts(record: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, empty where it is missing or null. Raises ``FieldError``."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _other(name, value, "a list of texts")
    for entry in value:
        if not isinstance(entry, str):
            raise _other(f"an entry of {name}", entry, "text")
    return list(value)


def mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object, empty where it is missing or null. Raises ``FieldError``."""
    value = record.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _other(name, value, "an object")
    return value


def _other(name: str, value: Any, expected: str) -> FieldError:
    if value is None or isinstance(value, bool):
        found = {None: "null", True: "true", False: "false"}[value]
    else:
        found = _JSON_TYPES.get(type(value), type(value).__name__)
    return FieldError(f"{name} is {found}, not {expected}")
