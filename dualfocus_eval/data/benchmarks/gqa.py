"""GQA (Hudson and Manning, 2019), the balanced testdev questions: open-ended questions about photographs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.data.benchmarks.base import Benchmark, Rejected, Row
from dualfocus_eval.data.benchmarks.sources import ImageFolder, find_file
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
    repeated: list[str] = []

    def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                repeated.append(key)
            mapping.setdefault(key, value)
        return mapping

    try:
        questions = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=first_of_each)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(questions, dict):
        raise UserError(f"{path} is not GQA's JSON: expected an object of questions by id")
    return questions, [key for key in repeated if key in questions]


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
    questions, repeated = load_questions(path)
    for question_id, record in questions.items():
        yield _row(f"{path.name}, question {question_id}", question_id, record, folder)
    for question_id in repeated:
        yield Rejected(f"{path.name}, question {question_id}", f"question id {question_id} occurs a second time")


def _row(where: str, question_id: str, record: Any, folder: ImageFolder) -> Row | Rejected:
    fault = missing_in(record)
    if fault:
        return Rejected(where, fault)
    image = folder.find(str(record["imageId"]))
    if image is None:
        return Rejected(where, f"image {record['imageId']} is not in the source folder")
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
