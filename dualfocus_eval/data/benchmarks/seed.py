"""SEED-Bench (Li et al., 2023), the questions about images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.data.benchmarks.base import Benchmark, Rejected, Row
from dualfocus_eval.data.benchmarks.sources import ImageFolder, find_file, json_items, read_row
from dualfocus_eval.errors import UserError

__all__ = ["SEED_IMG"]

TEXTS = (
    "question_id", "question", "answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_id", "data_type",
)  # fmt: skip
LETTERS = frozenset("ABCD")
DIMENSIONS = range(1, 10)


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    return {**dict.fromkeys(TEXTS, Value("string")), "question_type_id": Value("int64")}


def _files(source: Path) -> list[Path]:
    path = find_file(source, "SEED-Bench.json", "SEED-Bench*.json")
    if path is None:
        raise UserError(f"no SEED-Bench.json below {source}: this is the release's question file")
    return [path]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    folder = ImageFolder(source)
    for where, record in json_items(path, "questions"):
        if not isinstance(record, dict):
            yield Rejected(where, "is not a JSON object")
        elif record.get("data_type") == "image":
            yield read_row(where, _row, record, folder)


def _row(where: str, record: dict[str, Any], folder: ImageFolder) -> Row | Rejected:
    missing = [name for name in (*TEXTS, "question_type_id") if not str(record.get(name, "") or "").strip()]
    if missing:
        return Rejected(where, f"lacks {', '.join(missing)}")
    question_id = str(record["question_id"])
    if str(record["answer"]).strip().upper() not in LETTERS:
        return Rejected(where, f"question {question_id}: answer {record['answer']!r} is none of A, B, C, D")
    if record["question_type_id"] not in DIMENSIONS:
        return Rejected(where, f"question {question_id}: dimension {record['question_type_id']!r} is none of 1 to 9")
    image = folder.find(str(record["data_id"]))
    values = {name: str(record[name]) for name in TEXTS} | {"question_type_id": int(record["question_type_id"])}
    return Row("test", where, question_id, values, image)


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
