"""Rendered scenes with questions about details and about the whole: exact match, overall, per kind and per level."""

from __future__ import annotations

import string

from dualfocus_eval.harness.task_functions import answer_text, count, doc_to_visual, mean_score, undecoded
from dualfocus_eval.method.prompts import WORD_HINT

__all__ = ["count", "doc_to_text", "doc_to_visual", "mean_score", "process_results", "undecoded"]

_ARTICLES = {"a", "an", "the"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def doc_to_text(doc: dict) -> str:
    return f"{doc['question'].strip()}\n{WORD_HINT}"


def normalise(text: str) -> str:
    """Lower case, without punctuation, surplus space and articles (an article alone is an answer: the label "A")."""
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = normalise(answer_text(results))
    correct = float(bool(prediction) and prediction == normalise(doc["answer"]))
    record = {"score": correct, "image_id": doc["image_id"]}
    return {
        "accuracy": record,
        doc["level"]: record,
        doc["kind"]: record,
        "unanswered": {"counted": not prediction},
        "score": correct,
    }
