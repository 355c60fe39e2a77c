"""GQA (Hudson and Manning, 2019), the balanced testdev questions: open-ended questions about photographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError, identifier, mapping, optional_text, required, text
from dualfocus_eval.datasets.sources import ImageFolder, json_members, needed_file, read_row

__all__ = ["GQA", "QUESTIONS", "SPLIT", "STRUCTURAL", "check_question", "load_questions"]

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


def load_questions(path: Path) -> tuple[dict[str, Any], list[Rejected]]:
    """The questions of one of GQA's files by id, and what is wrong with it; an id's first entry counts.

    Raises ``UserError`` where the file cannot be read or is not GQA's JSON.
    """
    questions: dict[str, Any] = {}
    faults: list[Rejected] = []
    for entry in json_members(path):
        if isinstance(entry, Rejected):
            faults.append(entry)
        elif entry[0] in questions:
            faults.append(Rejected(place_of(path, entry[0]), "occurs a second time"))
        else:
            questions[entry[0]] = entry[1]
    return questions, faults


def place_of(path: Path, question_id: str) -> str:
    """File and question, for messages."""
    return f"{path.name}, question {question_id}"


def check_question(record: Any) -> dict[str, Any]:
    """``record``, which has all that makes it a question. Raises ``FieldError`` that says what it lacks."""
    if not isinstance(record, dict):
        raise FieldError("is not a JSON object")
    required(record, ("imageId", "question", "answer", "types"))
    identifier(record, "imageId")
    text(record, "question")
    text(record, "answer")
    structural = mapping(record, "types").get("structural")
    if structural not in STRUCTURAL:
        raise FieldError(f"structural type {structural!r} is none of {', '.join(STRUCTURAL)}")
    return record


def _files(source: Path) -> list[Path]:
    return [needed_file(source, "GQA's question file", QUESTIONS)]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    folder = ImageFolder(source)
    for entry in json_members(path):
        if isinstance(entry, Rejected):
            yield entry
        else:
            yield read_row(place_of(path, entry[0]), _row, *entry, folder)


def _row(where: str, question_id: str, record: Any, folder: ImageFolder) -> Row | Rejected:
    check_question(record)
    groups, types = mapping(record, "groups"), mapping(record, "types")
    balanced = record.get("isBalanced", True)
    if not isinstance(balanced, bool):
        return Rejected(where, f"isBalanced is {balanced!r}, not true or false")
    image_id = identifier(record, "imageId")
    values = {
        "id": question_id,
        "imageId": image_id,
        "question": text(record, "question"),
        "isBalanced": balanced,
        "groups": {name: optional_text(groups, name) for name in ("global", "local")},
        "types": {name: optional_text(types, name) for name in ("structural", "semantic", "detailed")},
        "semanticStr": optional_text(record, "semanticStr"),
        "answer": text(record, "answer"),
        "fullAnswer": optional_text(record, "fullAnswer"),
    }
    return Row(SPLIT, where, question_id, values, folder.find(image_id))


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
