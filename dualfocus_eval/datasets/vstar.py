"""V*Bench (Wu and Xie, 2024): details in large photographs, with the boxes of the objects asked about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Benchmark, ImageFile, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError, identifier, required, text
from dualfocus_eval.datasets.sources import json_items, json_records, needed_file, read_row
from dualfocus_eval.method.stems import StemAndOptions, stem_of

__all__ = ["CATEGORIES", "LETTERS", "QUESTIONS", "VSTAR", "read_question"]

QUESTIONS = "test_questions.jsonl"
CATEGORIES = ("direct_attributes", "relative_position")
LETTERS = "ABCD"


def _columns() -> Mapping[str, Any]:
    from datasets import List, Value

    names = ("text", "category", "label", "question_id")
    return {**dict.fromkeys(names, Value("string")), "box": List(Value("float64"), length=4)}


def read_question(record: Mapping[str, Any]) -> StemAndOptions:
    """Question and options out of the ``text`` of a record with a right ``label``. Raises ``FieldError``.

    The text lists the options as ``(A) red``, and ends with a sentence that asks for the letter.
    """
    found = stem_of(text(record, "text"))
    if not found.stem or not 2 <= len(found.options) <= len(LETTERS):
        raise FieldError(f"text is no question with two to four options: {record['text']!r}")
    letters = tuple(LETTERS[: len(found.options)])
    if text(record, "label").strip().upper() not in letters:
        raise FieldError(f"label {record['label']!r} is none of {', '.join(letters)}")
    return found


def _files(source: Path) -> list[Path]:
    return [needed_file(source, "V*Bench's question file", QUESTIONS)]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    for entry in json_records(path):
        yield entry if isinstance(entry, Rejected) else read_row(entry[0], _row, entry[1], path.parent)


def _row(where: str, record: dict[str, Any], folder: Path) -> Row | Rejected:
    required(record, ("question_id", "text", "category", "label", "image"))
    read_question(record)
    category, name = text(record, "category"), PurePosixPath(text(record, "image"))
    if category not in CATEGORIES:
        return Rejected(where, f"category {category!r} is none of {', '.join(CATEGORIES)}")
    if name.is_absolute() or ".." in name.parts:
        return Rejected(where, f"image {name} is no path below the folder of {QUESTIONS}")
    image = folder / name
    values = {
        "text": text(record, "text"),
        "category": category,
        "label": text(record, "label").strip().upper(),
        "question_id": identifier(record, "question_id"),
        "box": _box(image.with_suffix(".json")),
    }
    # Both folders may hold an image of the same name.
    stored = ImageFile(image, "-".join(name.parts))
    return Row("test", where, f"{category}/{values['question_id']}", values, stored)


def _box(annotation: Path) -> list[float] | None:
    """The box around all target objects, [x1, y1, x2, y2] in pixels; None without the annotation beside the image.

    Annotations hold [x, y, width, height] of each target, or of the only one. Raises ``FieldError``.
    """
    if not annotation.exists():
        return None
    try:
        entries = [entry for _, entry in json_items(annotation, "bbox")]
        targets = entries if entries and isinstance(entries[0], list) else [entries]
        boxes = [[float(number) for number in box] for box in targets]
        corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
        x1, y1, x2, y2 = zip(*corners, strict=True)
    except (UserError, TypeError, ValueError) as error:
        raise FieldError(f"{annotation.name} holds no bbox of four numbers per target: {error}") from error
    box = [min(x1), min(y1), max(x2), max(y2)]
    if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
        raise FieldError(f"{annotation.name} holds a bbox without area: {boxes}")
    return box


VSTAR = Benchmark(
    name="vstar",
    title="V*Bench",
    counts={"test": 191},
    images=191,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects=f"{QUESTIONS} and the folders {' and '.join(CATEGORIES)} with images and annotations",
)
