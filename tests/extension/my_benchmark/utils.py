"""The prompts and the scoring of my_benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from dualfocus_eval.harness.task_functions import answer_text, mean_score
from dualfocus_eval.method.prompts import WORD_HINT

__all__ = ["doc_to_text", "doc_to_visual", "mean_score", "process_results"]

IMAGES = Path(__file__).parent / "images"


def doc_to_visual(doc: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(IMAGES / doc["image"]).convert("RGB")]


def doc_to_text(doc: dict[str, Any]) -> str:
    return f"{doc['question']}\n{WORD_HINT}"


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    correct = float(answer_text(results).strip().lower() == doc["answer"].lower())
    return {"accuracy": {"score": correct, "image_id": doc["image"]}, "score": correct}
