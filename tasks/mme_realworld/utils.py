"""MME-RealWorld-Lite: five options about large images; accuracy over all, per task, and per task and scenario."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.fields import FieldError
from dualfocus_eval.datasets.mme_realworld import LETTERS, OPTIONS, SUBTASKS, TASKS, bare_options
from dualfocus_eval.datasets.row_images import image_references
from dualfocus_eval.harness.task_functions import (
    answer_text,
    count,
    doc_to_visual,
    mean_score,
    read_letter,
    undecoded,
)

__all__ = ["count", "doc_to_text", "doc_to_visual", "mean_score", "process_results", "with_options"]

HINT = (
    "Select the best answer to the above multiple-choice question based on the image. Respond with only the letter "
    f"({', '.join(LETTERS[:-1])}, or {LETTERS[-1]}) of the correct option.\nThe best answer is: "
)
"""The authors' format hint."""


def with_options(dataset: Any) -> Any:
    """Adds ``options``, without their labels.

    The hub's rows hold their image as base64 in ``bytes``, which would go into logs; here they refer to it.
    """
    from datasets import Image as ImageFeature
    from datasets import List, Value

    options = []
    for number, entries in enumerate(dataset.select_columns([OPTIONS])[OPTIONS], 1):
        try:
            options.append(list(bare_options(entries)))
        except FieldError as error:
            raise UserError(
                f"record {number} of MME-RealWorld-Lite {error}. To run without it: "
                "dualfocus data prepare mme-realworld-lite --source DIR"
            ) from error
    dataset = dataset.add_column("options", options, feature=List(Value("string")))
    if "image" in dataset.column_names:
        return undecoded(dataset)
    references = image_references(dataset, "bytes")
    return dataset.remove_columns(["bytes"]).add_column("image", references, feature=ImageFeature(decode=False))


def doc_to_text(doc: dict) -> str:
    return "\n".join([f"{doc['question']} The choices are listed below:", *doc[OPTIONS], HINT])


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = read_letter(answer_text(results).strip(), doc["options"])
    record = {"score": float(prediction == doc["answer"].strip().upper()), "image_id": str(doc["index"])}
    return {
        "accuracy": record,
        **dict.fromkeys(_metrics(doc["category"]), record),
        "unread": {"counted": not prediction},
        "score": record["score"],
    }


def _metrics(category: str) -> list[str]:
    """The metrics of a category, ``Task/Scenario``; none for one that the release does not have."""
    task, _, scenario = category.partition("/")
    if task not in TASKS or scenario not in SUBTASKS:
        return []
    return [task.lower(), f"{task}_{scenario}".lower().replace(" ", "_")]
