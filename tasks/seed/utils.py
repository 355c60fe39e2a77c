"""SEED-Bench's image questions: four options, accuracy over all and per dimension."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.data.benchmarks.prepared import image_of
from dualfocus_eval.method.selection import option_index

FORMAT_HINT = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCD"
DIMENSIONS = {
    1: "scene_understanding",
    2: "instance_identity",
    3: "instance_attributes",
    4: "instance_location",
    5: "instances_counting",
    6: "spatial_relation",
    7: "instance_interaction",
    8: "visual_reasoning",
    9: "text_understanding",
}


def image_questions(dataset: Any) -> Any:
    """The rows about images: the release asks about videos too."""
    return dataset.filter(lambda kind: kind == "image", input_columns=["data_type"])


def doc_to_visual(doc: dict) -> list:
    return [image_of(doc["image"])]


def options(doc: dict) -> tuple[str, ...]:
    return tuple(str(doc[f"choice_{letter.lower()}"]) for letter in LETTERS)


def doc_to_text(doc: dict) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options(doc), strict=True)]
    return "\n".join([doc["question"].strip(), *lines, FORMAT_HINT])


def process_results(doc: dict, results: list[str]) -> dict:
    chosen = option_index(results[0] if results else "", len(LETTERS))
    prediction = "" if chosen is None else LETTERS[chosen]
    correct = float(prediction == doc["answer"].strip().upper())
    record = {"score": correct, "image_id": doc["data_id"]}
    return {
        "accuracy": record,
        DIMENSIONS[int(doc["question_type_id"])]: record,
        "unread": {"unread": not prediction},
        "score": correct,
    }


def mean_score(records: list[dict]) -> float:
    return sum(record["score"] for record in records) / len(records)


def count_unread(records: list[dict]) -> int:
    return sum(record["unread"] for record in records)
