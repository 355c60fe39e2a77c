"""Functions that the YAMLs of our tasks share: the image, the answer's text, means and counts over records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_eval.datasets.prepared import image_of, undecoded
from dualfocus_eval.method.letters import named_option
from dualfocus_eval.method.prompts import LETTER_HINT

__all__ = [
    "all_right", "answer_text", "count", "doc_to_visual", "is_blank", "lettered_prompt", "mean_of_means", "mean_score",
    "read_letter", "undecoded",
]  # fmt: skip


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The row's one image, in RGB. Raises ``OSError`` for one that cannot be read."""
    return [image_of(doc["image"])]


def lettered_prompt(question: str, options: Mapping[str, str], hint: str = LETTER_HINT) -> str:
    """A multiple-choice question as most tasks of ours lay it out: the options by letter, then the format hint."""
    lines = (f"{letter}. {text}" for letter, text in options.items())
    return "\n".join([question.strip(), *lines, hint])


def read_letter(text: str, options: Sequence[str]) -> str:
    """The letter of the option that an answer names (`named_option`); ``""`` where it cannot be told."""
    named = named_option(text, options)
    return "" if named is None else chr(ord("A") + named)


def answer_text(results: Sequence[Any]) -> str:
    """The model's answer; empty for a question that got none."""
    return str(results[0]) if results and results[0] is not None else ""


def is_blank(cell: Any) -> bool:
    """Whether a table's cell is empty; tables read by pandas say ``nan``."""
    return cell is None or str(cell).strip() in ("", "nan")


def mean_score(records: Sequence[Mapping[str, Any]]) -> float:
    """Mean of the records' ``score``."""
    return float(sum(record["score"] for record in records) / len(records))


def mean_of_means(records: Sequence[Mapping[str, Any]], group: str) -> float:
    """Mean over the groups, told apart by the records' ``group``, of their mean ``score``."""
    groups: dict[Any, list[float]] = {}
    for record in records:
        groups.setdefault(record[group], []).append(record["score"])
    return sum(sum(scores) / len(scores) for scores in groups.values()) / len(groups)


def all_right(records: Sequence[Mapping[str, Any]], group: str) -> float:
    """Share of the groups, told apart by the records' ``group``, in which every record has the full ``score``."""
    worst: dict[Any, float] = {}
    for record in records:
        worst[record[group]] = min(record["score"], worst.get(record[group], 1.0))
    return sum(score == 1.0 for score in worst.values()) / len(worst)


def count(records: Sequence[Mapping[str, Any]]) -> int:
    """How many of the records are ``counted``."""
    return sum(bool(record["counted"]) for record in records)
