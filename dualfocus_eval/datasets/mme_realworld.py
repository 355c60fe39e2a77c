"""MME-RealWorld-Lite (Zhang et al., 2025): five options about large images of five real-world scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError, identifier, required, text, texts
from dualfocus_eval.datasets.sources import ImageFolder, json_records, needed_file, read_row

__all__ = ["LETTERS", "MME_REALWORLD_LITE", "OPTIONS", "SUBTASKS", "TASKS", "bare_options"]

QUESTIONS = "MME-RealWorld-Lite.json"
OPTIONS = "multi-choice options"
LETTERS = "ABCDE"
TASKS = ("Perception", "Reasoning")
SUBTASKS = ("Monitoring", "Autonomous_Driving", "OCR with Complex Context", "Diagram and Table", "Remote Sensing")


def _columns() -> Mapping[str, Any]:
    from datasets import List, Value

    value = Value("string")
    return {
        **dict.fromkeys(("index", "question", "answer", "category", "l2-category"), value),
        OPTIONS: List(value),
    }


def bare_options(labelled: Sequence[str]) -> tuple[str, ...]:
    """Option texts without the labels ``(A)``, ``(B)``, ... that they have in this order.

    Raises ``FieldError`` where there are not two to five.
    """
    if not 2 <= len(labelled) <= len(LETTERS):
        raise FieldError(f"has {len(labelled)} options, not two to five")
    return tuple(
        option.strip().removeprefix(f"({letter})").strip() for letter, option in zip(LETTERS, labelled, strict=False)
    )


def _files(source: Path) -> list[Path]:
    return [needed_file(source, "MME-RealWorld-Lite's question file", QUESTIONS)]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    (path,) = _files(source)
    folder = ImageFolder(source)
    for entry in json_records(path):
        yield entry if isinstance(entry, Rejected) else read_row(entry[0], _row, entry[1], folder)


def _row(where: str, record: dict[str, Any], folder: ImageFolder) -> Row | Rejected:
    required(record, ("Question_id", "Image", "Text", "Answer choices", "Ground truth", "Category", "Subtask", "Task"))
    options, answer = texts(record, "Answer choices"), text(record, "Ground truth").strip().upper()
    letters = tuple(LETTERS[: len(bare_options(options))])
    task, subtask = text(record, "Task"), text(record, "Subtask")
    index = identifier(record, "Question_id")
    if answer not in letters:
        return Rejected(where, f"question {index}: answer {answer!r} is none of {', '.join(letters)}")
    if task not in TASKS or subtask not in SUBTASKS:
        allowed = f"{', '.join(TASKS)}; {', '.join(SUBTASKS)}"
        return Rejected(where, f"question {index}: task {task!r} or subtask {subtask!r} is none of {allowed}")
    values = {
        "index": index,
        "question": text(record, "Text"),
        OPTIONS: options,
        "answer": answer,
        "category": f"{task}/{subtask}",
        "l2-category": text(record, "Category"),
    }
    return Row("train", where, index, values, folder.find(text(record, "Image")))


MME_REALWORLD_LITE = Benchmark(
    name="mme-realworld-lite",
    title="MME-RealWorld-Lite",
    counts={"train": 1919},
    images=None,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects=f"{QUESTIONS} and the folder imgs",
)
