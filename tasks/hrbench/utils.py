"""HR-Bench: four options about images of 4K or 8K, asked under four cyclic orders of the options (cycles)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dualfocus_eval.datasets.hrbench import LETTERS
from dualfocus_eval.datasets.row_images import image_references
from dualfocus_eval.harness.task_functions import (
    all_right,
    answer_text,
    count,
    doc_to_visual,
    is_blank,
    lettered_prompt,
    mean_of_means,
    mean_score,
    read_letter,
    undecoded,
)

__all__ = [
    "count", "doc_to_text", "doc_to_visual", "mean_score", "over_cycles", "process_results", "right_in_all_cycles",
    "with_questions",
]  # fmt: skip

HINT = "Answer the option letter directly."
"""The authors' format hint."""


def with_questions(dataset: Any) -> Any:
    """Adds what tells a question's rows from others': ``question_number``, and ``cycle`` from 0.

    The hub's rows hold their image as base64, which would go into logs; here they refer to it.
    """
    from datasets import Image as ImageFeature

    numbers, cycles = zip(*_numbered(dataset.select_columns(["question", *LETTERS, "cycle_category"])), strict=True)
    dataset = dataset.add_column("question_number", list(numbers)).add_column("cycle", list(cycles))
    if isinstance(dataset.features["image"], ImageFeature):
        return undecoded(dataset)
    references = image_references(dataset)
    return dataset.remove_columns(["image"]).add_column("image", references, feature=ImageFeature(decode=False))


def _numbered(rows: Iterable[dict]) -> Iterator[tuple[int, int]]:
    """Number of the question and of the cycle of every row.

    Rows of one question share its text and its options. A cycle that comes a second time is of another question, of the
    same words about another image.
    """
    times, cycles = Counter[Any](), Counter[int]()
    numbers: dict[Any, int] = {}
    for row in rows:
        words = (row["question"], *sorted(_options(row).values()))
        asked = words, str(row["cycle_category"])
        number = numbers.setdefault((words, times[asked]), len(numbers))
        yield number, cycles[number]
        times[asked] += 1
        cycles[number] += 1


def _options(doc: dict) -> dict[str, str]:
    return {letter: str(doc[letter]) for letter in LETTERS if not is_blank(doc.get(letter))}


def doc_to_text(doc: dict) -> str:
    return lettered_prompt(doc["question"], _options(doc), HINT)


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = read_letter(answer_text(results).strip(), list(_options(doc).values()))
    record = {
        "score": float(prediction == doc["answer"].strip().upper()),
        "image_id": str(doc["question_number"]),
        "cycle": str(doc["cycle_category"]),
    }
    return {
        "accuracy": record,
        doc["category"]: record,
        "all_cycles": record,
        **({} if doc["cycle"] else {"first_cycle": record}),
        "unread": {"counted": not prediction},
        "score": record["score"],
    }


def over_cycles(records: list[dict]) -> float:
    """Mean over the cycles of their accuracy, as the authors report it."""
    return mean_of_means(records, "cycle")


def right_in_all_cycles(records: list[dict]) -> float:
    """Share of the questions that are right in each of their cycles."""
    return all_right(records, "image_id")
