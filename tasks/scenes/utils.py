"""Rendered scenes with questions about details and about the whole: exact match, overall, per kind and per level."""

from __future__ import annotations

import string

FORMAT_HINT = "Answer the question using a single word or phrase."

_ARTICLES = {"a", "an", "the"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def doc_to_visual(doc: dict) -> list:
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: dict) -> str:
    return f"{doc['question'].strip()}\n{FORMAT_HINT}"


def normalise(text: str) -> str:
    """Lower case, without punctuation, surplus space and articles (an article alone is an answer: the label "A")."""
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = normalise(results[0] if results else "")
    correct = float(bool(prediction) and prediction == normalise(doc["answer"]))
    record = {"score": correct, "image_id": doc["image_id"]}
    return {
        "accuracy": record,
        doc["level"]: record,
        doc["kind"]: record,
        "unanswered": {"empty": not prediction},
        "score": correct,
    }


def mean_score(records: list[dict]) -> float:
    return sum(record["score"] for record in records) / len(records)


def count_empty(records: list[dict]) -> int:
    return sum(record["empty"] for record in records)
