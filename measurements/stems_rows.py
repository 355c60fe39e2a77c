"""Made-up rows: a value for any column, by the column's name."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

__all__ = ["IMAGE_STYLES", "OPTION_STYLES", "QUESTION", "made_up_row"]

QUESTION = "Where is the small red cup in this picture?"
_TEXTS = ("on the table", "under the lamp", "beside the door", "behind the chair")
_LETTERED = [f"({letter}) {text}" for letter, text in zip("ABCD", _TEXTS, strict=True)]
_WITH_DOTS = [f"{letter}. {text}" for letter, text in zip("ABCD", _TEXTS, strict=True)]

OPTION_STYLES: Mapping[str, Any] = {
    "list": list(_TEXTS),
    "text of a list": str(list(_TEXTS)),
    "lettered": _LETTERED,
    "mapping": dict(zip("ABCD", _TEXTS, strict=True)),
    "JSON": json.dumps(dict(zip("ABCD", _TEXTS, strict=True))),
    "lines": "\n".join(_WITH_DOTS),
    "texts and labels": {"text": list(_TEXTS), "label": list("ABCD")},
    "no options": None,
}
"""How a column may hold the options."""

IMAGE_STYLES = ("image", "list", "base64")
"""How a column may hold the image."""

_LETTER = re.compile(r"(?:choice|option|answer|opt)?[_ ]?([A-J])", re.IGNORECASE)
_IMAGE = re.compile(r"image|img|picture|photo|bytes|screenshot|visual", re.IGNORECASE)
_NAME_OF_IMAGE = re.compile(r"id$|path|name|url|size|type|num|caption|width|height|source", re.IGNORECASE)
_OPTIONS = re.compile(r"options?$|choices?$|candidates?$|^answers_list$", re.IGNORECASE)
_QUESTION = re.compile(
    r"^question$|^question_(?:text|en)$|^(?:query|problem|prompt|instruction|text|input|q)$", re.IGNORECASE
)
_ANY_QUESTION = re.compile(r"question|query|problem|prompt|instruct|expression|statement", re.IGNORECASE)
_NUMBER = re.compile(r"(?:^|_)(?:id|idx|index|num|number|count|width|height)$", re.IGNORECASE)


def made_up_row(images: str, options: str) -> dict[str, Any]:
    """A row that has every column, images and options in the given styles."""
    row = _Row(lambda column: _value(column, images, options))
    # Some functions look for the options among the row's keys.
    row.update({letter: row[letter] for letter in "ABCD" if options != "no options"})
    return row


class _Row(dict[str, Any]):
    """A mapping that makes a value up for every column that is asked for."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, column: str) -> Any:
        self[column] = self._make(column)
        return self[column]

    def __contains__(self, column: object) -> bool:
        return isinstance(column, str) and self[column] is not None

    def get(self, column: str, default: Any = None) -> Any:
        found = self[column]
        return default if found is None else found


def _value(column: str, images: str, options: str) -> Any:
    if match := _LETTER.fullmatch(column):
        place = ord(match[1].upper()) - ord("A")
        return _TEXTS[place] if place < len(_TEXTS) and options != "no options" else None
    if _OPTIONS.search(column):
        return OPTION_STYLES[options]
    if _IMAGE.search(column) and not _NAME_OF_IMAGE.search(column):
        return _image(images, several=column.lower() in ("images", "image_list"))
    if _QUESTION.search(column):
        return QUESTION
    if re.search(r"hint|context|passage|rationale|ocr|precontext", column, re.IGNORECASE):
        return ""
    if _NUMBER.search(column):
        return 1
    if _ANY_QUESTION.search(column) and not re.search(r"type|id$|category", column, re.IGNORECASE):
        return QUESTION
    return "A" if "answer" in column.lower() else "other"


def _image(style: str, several: bool) -> Any:
    image = Image.new("RGB", (64, 48), "white")
    if style != "base64":
        return [image] if several or style == "list" else image
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return base64.b64encode(encoded.getvalue()).decode()
