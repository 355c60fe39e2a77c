"""Functions that the YAMLs of our tasks share: the image, the answer's text, means and counts over records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_eval.datasets.prepared import image_of, undecoded
from dualfocus_eval.method.prompts import LETTER_HINT

__all__ = [
    "answer_text", "count", "doc_to_visual", "is_blank", "lettered_prompt", "mean_score",
    "undecoded",
]  # fmt: skip


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The row's one image, in RGB. Raises ``OSError`` for one that cannot be read."""
    return [image_of(doc["image"])]


def lettered_prompt(question: str, options: Mapping[str, str]) -> str:
    """A multiple-choice question as every task of ours lays it out: the options by letter, then the format hint."""
    lines = (f"{letter}. {text}" for letter, text in options.items())
    return "\n".join([question.strip(), *lines, LETTER_HINT])


def answer_text(results: Sequence[Any]) -> str:
    """The model's answer; empty for a question that got none."""
    return str(results[0]) if results and results[0] is not None else ""


def is_blank(cell: Any) -> bool:
    """Whether a table's cell is empty; tables read by pandas say ``nan``."""
    return cell is None or str(cell).strip() in ("", "nan")


def mean_score(records: Sequence[Mapping[str, Any]]) -> float:
    """Mean of the records' ``score``."""
    return float(sum(record["score"] for record in records) / len(records))


def count(records: Sequence[Mapping[str, Any]]) -> int:
    """How many of the records are ``counted``."""
    return sum(bool(record["counted"]) for record in records)
