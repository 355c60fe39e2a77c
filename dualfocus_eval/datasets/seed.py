"""SEED-Bench (Li et al., 2023), the questions about images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import identifier, required, text
from dualfocus_eval.datasets.sources import ImageFolder, json_records, needed_file, read_row

__all__ = ["SEED_IMG"]

TEXTS = (
    "question_id", "question", "answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_id", "data_type",
)  # fmt: skip
IDS = ("question_id", "data_id")
IMAGE, VIDEO = "image", "video"
"""The ``data_type`` of questions about images, and of those that are left aside."""
LETTERS = frozenset("ABCD")
DIMENSIONS = range(1, 10)


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    return {**dict.fromkeys(TEXTS, Value("string")), "question_type_id": Value("int64")}


def _files(source: Path) -> list[Path]:
    return [needed_file(source, "the release's question file", "SEED-Bench.json", "SEED-Bench*.json")]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    folder = ImageFolder(source)
    for entry in json_records(path, "questions"):
        if isinstance(entry, Rejected):
            yield entry
        elif entry[1].get("data_type") != VIDEO:
            yield read_row(entry[0], _row, entry[1], folder)


def _row(where: str, record: dict[str, Any], folder: ImageFolder) -> Row | Rejected:
    required(record, (*TEXTS, "question_type_id"))
    values = {name: (identifier if name in IDS else text)(record, name) for name in TEXTS}
    question_id, dimension = values["question_id"], record["question_type_id"]
    if values["data_type"] != IMAGE:
        return Rejected(where, f"question {question_id}: data_type {values['data_type']!r} is not {IMAGE} or {VIDEO}")
    if values["answer"].strip().upper() not in LETTERS:
        return Rejected(where, f"question {question_id}: answer {record['answer']!r} is none of A, B, C, D")
    if type(dimension) is not int or dimension not in DIMENSIONS:
        return Rejected(where, f"question {question_id}: dimension {dimension!r} is none of 1 to 9")
    image = folder.find(values["data_id"])
    return Row("test", where, question_id, {**values, "question_type_id": dimension}, image)


SEED_IMG = Benchmark(
    name="seed-img",
    title="SEED-Bench, images",
    counts={"test": 14233},
    images=None,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects="SEED-Bench.json and the folder SEED-Bench-image",
)
