"""POPE: is an object in the image? Scored as the benchmark's authors do, on the predictions.

Each metric gets one record per question; only those that are a mean over questions carry ``score``, so that lmms-eval
computes (clustered) standard errors for these and for no others.
"""

from __future__ import annotations

FORMAT_HINT = "Answer the question using a single word or phrase."


def doc_to_visual(doc: dict) -> list:
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: dict) -> str:
    return f"{doc['question'].strip()}\n{FORMAT_HINT}"


def read_answer(text: str) -> str:
    """``yes`` or ``no`` by the official rule: a no when the first sentence has the word No, no or not, else a yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def process_results(doc: dict, results: list[str]) -> dict:
    """The official rule makes a question without an answer a yes; ``unanswered`` says how many there are."""
    text = results[0] if results else ""
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
        "unanswered": {"empty": not text.strip()},
        "score": correct,
    }


def mean_score(records: list[dict]) -> float:
    return sum(record["score"] for record in records) / len(records)


def count_empty(records: list[dict]) -> int:
    return sum(record["empty"] for record in records)


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
