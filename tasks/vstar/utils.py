"""V*Bench: two to four options about details of large photographs; as released, and with the options in every order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.fields import FieldError
from dualfocus_eval.datasets.row_images import image_references
from dualfocus_eval.datasets.vstar import LETTERS, read_question
from dualfocus_eval.harness.task_functions import (
    all_right,
    answer_text,
    count,
    doc_to_visual,
    lettered_prompt,
    mean_of_means,
    mean_score,
    read_letter,
    undecoded,
)

__all__ = [
    "count", "doc_to_text", "doc_to_visual", "in_all_orders", "mean_score", "over_questions", "process_order",
    "process_results", "right_in_all_orders", "with_options",
]  # fmt: skip


def with_options(dataset: Any) -> Any:
    """Adds ``stem`` and ``options``, which the release has in one text."""
    from datasets import List, Value

    read = []
    for number, record in enumerate(dataset.select_columns(["text", "label"]), 1):
        try:
            read.append(read_question(record))
        except FieldError as error:
            raise UserError(
                f"record {number} of V*Bench: {error}. To run without it: dualfocus data prepare vstar --source DIR"
            ) from error
    dataset = dataset.add_column("stem", [question.stem for question in read])
    options = [list(question.options) for question in read]
    return undecoded(dataset.add_column("options", options, feature=List(Value("string"))))


def in_all_orders(dataset: Any) -> Any:
    """A row for every order of a question's options. Rows refer to their image, of which there is one copy."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    texts = with_options(dataset).remove_columns(["image"])
    rows = [
        row | {"image": image}
        for record, image in zip(texts, image_references(dataset), strict=True)
        for row in _orders(record)
    ]
    return Dataset.from_list(rows, features=Features({**texts.features, "image": ImageFeature(decode=False)}))


def _orders(record: dict) -> Iterator[dict]:
    right = LETTERS.index(_right(record))
    for order in permutations(range(len(record["options"]))):
        options = [record["options"][place] for place in order]
        yield record | {"options": options, "label": LETTERS[order.index(right)]}


def doc_to_text(doc: dict) -> str:
    return lettered_prompt(doc["stem"], dict(zip(LETTERS, doc["options"], strict=False)))


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = read_letter(answer_text(results).strip(), doc["options"])
    record = {"score": float(prediction == _right(doc)), "image_id": doc.get("image_id") or _question(doc)}
    kinds = {doc["category"], doc.get("kind") or doc["category"]}
    return {
        "accuracy": record,
        **dict.fromkeys(kinds, record),
        "unread": {"counted": not prediction},
        "score": record["score"],
    }


def process_order(doc: dict, results: list[str]) -> dict:
    """The scores of one order of a question's options."""
    scores = process_results(doc, results)
    record = scores["accuracy"] | {"question": _question(doc)}
    return {
        **scores,
        **dict.fromkeys(("accuracy", doc["category"], "all_orders", f"right_at_{_right(doc).lower()}"), record),
    }


def over_questions(records: list[dict]) -> float:
    """Mean over questions of the share of their orders that are right; each question counts once."""
    return mean_of_means(records, "question")


def right_in_all_orders(records: list[dict]) -> float:
    """Share of the questions that are right in every order of their options."""
    return all_right(records, "question")


def _right(doc: dict) -> str:
    return str(doc["label"]).strip().upper()


def _question(doc: dict) -> str:
    """Ids are the release's, which has one question per image."""
    return f"{doc['category']}/{doc['question_id']}"
