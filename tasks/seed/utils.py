"""SEED-Bench's image questions: four options, accuracy over all and per dimension."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.harness.task_functions import (
    answer_text,
    count,
    doc_to_visual,
    lettered_prompt,
    mean_score,
    read_letter,
    undecoded,
)

__all__ = ["count", "doc_to_text", "doc_to_visual", "image_questions", "mean_score", "process_results"]

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
    return undecoded(dataset.filter(lambda kind: kind == "image", input_columns=["data_type"]))


def options(doc: dict) -> tuple[str, ...]:
    return tuple(str(doc[f"choice_{letter.lower()}"]) for letter in LETTERS)


def doc_to_text(doc: dict) -> str:
    return lettered_prompt(doc["question"], dict(zip(LETTERS, options(doc), strict=True)))


def process_results(doc: dict, results: list[str]) -> dict:
    """``exact_letter`` is LLaVA's rule: the answer is the letter and nothing else."""
    text = answer_text(results).strip()
    answer, prediction = doc["answer"].strip().upper(), read_letter(text, options(doc))
    image, correct = {"image_id": doc["data_id"]}, float(prediction == answer)
    record = {"score": correct, **image}
    return {
        "accuracy": record,
        "exact_letter": {"score": float(text == answer), **image},
        DIMENSIONS[int(doc["question_type_id"])]: record,
        "unread": {"counted": not prediction},
        "score": correct,
    }
