"""POPE: is an object in the image? Scored as the benchmark's authors do, on the predictions.

Each metric gets one record per question; only those that are a mean over questions carry ``score``, so that lmms-eval
computes (clustered) standard errors for these and for no others.
"""

from __future__ import annotations

from dualfocus_eval.harness.task_functions import answer_text, count, doc_to_visual, mean_score, undecoded
from dualfocus_eval.method.prompts import WORD_HINT

__all__ = [
    "count",
    "doc_to_text",
    "doc_to_visual",
    "f1",
    "mean_score",
    "precision",
    "process_results",
    "recall",
    "undecoded",
]


def doc_to_text(doc: dict) -> str:
    return f"{doc['question'].strip()}\n{WORD_HINT}"


def read_answer(text: str) -> str:
    """``yes`` or ``no`` by the official rule: a no when the first sentence has the word No, no or not, else a yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def process_results(doc: dict, results: list[str]) -> dict:
    """The official rule makes a question without an answer a yes; ``unanswered`` says how many there are."""
    text = answer_text(results)
    prediction = read_answer(text)
    answer = doc["answer"].strip().lower()
    correct = float(prediction == answer)
    pair = {"prediction": prediction, "answer": answer}
    image = {"image_id": doc["image_source"]}
    return {
        "accuracy": {"score": correct, **image},
        "precision": pair,
        "recall": pair,
        "f1": pair,
        "yes_ratio": {"score": float(prediction == "yes"), **image},
        "unanswered": {"counted": not text.strip()},
        "score": correct,
    }


def _share(pairs: list[dict], of: str) -> float:
    """Of the questions whose ``of`` is yes, the share where prediction and answer both are; 0 when there are none."""
    relevant = [pair for pair in pairs if pair[of] == "yes"]
    return sum(pair["prediction"] == pair["answer"] for pair in relevant) / len(relevant) if relevant else 0.0


def precision(pairs: list[dict]) -> float:
    return _share(pairs, of="prediction")


def recall(pairs: list[dict]) -> float:
    return _share(pairs, of="answer")


def f1(pairs: list[dict]) -> float:
    p, r = precision(pairs), recall(pairs)
    return 2 * p * r / (p + r) if p + r else 0.0
