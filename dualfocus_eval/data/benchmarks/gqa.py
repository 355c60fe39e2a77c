"""GQA (Hudson and Manning, 2019), the balanced testdev questions: open-ended questions about photographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.data.benchmarks.base import Benchmark, Rejected, Row
from dualfocus_eval.data.benchmarks.sources import ImageFolder, find_file, json_members, read_row
from dualfocus_eval.errors import UserError

__all__ = ["GQA", "QUESTIONS", "SPLIT", "STRUCTURAL", "load_questions", "missing_in"]

QUESTIONS, SPLIT = "testdev_balanced_questions.json", "testdev"
STRUCTURAL = ("query", "verify", "choose", "logical", "compare")
"""GQA's structural types; ``query`` is open-ended, the others are what the official scorer calls binary."""


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    text = Value("string")
    return {
        "id": text,
        "imageId": text,
        "question": text,
        "isBalanced": Value("bool"),
        "groups": {"global": text, "local": text},
        "types": {"structural": text, "semantic": text, "detailed": text},
        "semanticStr": text,
        "answer": text,
        "fullAnswer": text,
    }


def load_questions(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The questions of one of GQA's files by id, and the ids that occur again; of these the first entry counts.

    Raises ``UserError`` where the file cannot be read or is not GQA's JSON.
    """
    questions: dict[str, Any] = {}
    repeated: list[str] = []
    for question_id, record in json_members(path):
        if question_id in questions:
            repeated.append(question_id)
        questions.setdefault(question_id, record)
    return questions, repeated


def missing_in(record: Any) -> str:
    """What keeps an entry from being a question: empty when nothing does."""
    if not isinstance(record, dict):
        return "is not a JSON object"
    missing = [name for name in ("imageId", "question", "answer") if not str(record.get(name) or "").strip()]
    if not isinstance(record.get("types"), dict):
        missing.append("types")
    if missing:
        return f"lacks {', '.join(missing)}"
    structural = record["types"].get("structural")
    return "" if structural in STRUCTURAL else f"structural type {structural!r} is none of {', '.join(STRUCTURAL)}"


def _files(source: Path) -> list[Path]:
    path = find_file(source, QUESTIONS)
    if path is None:
        raise UserError(f"no {QUESTIONS} below {source}: this is GQA's question file")
    return [path]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    folder = ImageFolder(source)
    for question_id, record in json_members(path):
        yield read_row(f"{path.name}, question {question_id}", _row, question_id, record, folder)


def _row(where: str, question_id: str, record: Any, folder: ImageFolder) -> Row | Rejected:
    fault = missing_in(record)
    if fault:
        return Rejected(where, fault)
    image = folder.find(str(record["imageId"]))
    groups = record["groups"] if isinstance(record.get("groups"), dict) else {}
    values = {
        "id": question_id,
        "imageId": str(record["imageId"]),
        "question": str(record["question"]),
        "isBalanced": bool(record.get("isBalanced", True)),
        "groups": {name: _text(groups.get(name)) for name in ("global", "local")},
        "types": {name: _text(record["types"].get(name)) for name in ("structural", "semantic", "detailed")},
        "semanticStr": _text(record.get("semanticStr")),
        "answer": str(record["answer"]),
        "fullAnswer": _text(record.get("fullAnswer")),
    }
    return Row(SPLIT, where, question_id, values, image)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


GQA = Benchmark(
    name="gqa",
    title="GQA",
    counts={SPLIT: 12578},
    images=398,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects=f"{QUESTIONS} and the images of GQA",
)
