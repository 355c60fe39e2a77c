"""GQA, open-ended and as multiple choice. Both are scored by GQA's rule: the answer's text, character by character.

A prediction is taken without outer blanks and closing full stops, in lower case, as LLaVA hands it to the official
scorer; that scorer calls ``query`` questions open and all others binary.
"""

from __future__ import annotations

from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.gqa import STRUCTURAL
from dualfocus_eval.datasets.gqa_hub import hub_annotations, open_image, reference, with_image_references
from dualfocus_eval.datasets.gqa_mcq import GQA_MCQ, gqa_match_form, read_record
from dualfocus_eval.datasets.prepared import undecoded
from dualfocus_eval.harness.task_functions import answer_text, count, mean_score
from dualfocus_eval.method.letters import option_index
from dualfocus_eval.method.prompts import LETTER_HINT, WORD_HINT

__all__ = [
    "count",
    "doc_to_text",
    "doc_to_visual",
    "mcq_doc_to_text",
    "mcq_process_results",
    "mcq_rows",
    "mean_score",
    "process_results",
    "with_images",
]


def with_images(dataset: Any) -> Any:
    return with_image_references(dataset, "imageId")


def mcq_rows(dataset: Any) -> Any:
    """The published records as rows, joined with GQA's answers, types and images; rows of ours stay as they are."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    if "stem" in dataset.column_names:
        return undecoded(dataset)
    annotations = hub_annotations()
    rows, faults = [], []
    for number, record in enumerate(dataset, 1):
        try:
            row = read_record(record, annotations)
        except ValueError as error:
            faults.append(f"record {number}: {error}")
        else:
            rows.append(row | {"image": reference(row["image_id"])})
    if faults:
        raise UserError(
            f"{len(faults)} of {len(dataset)} records of GQA-MCQ cannot be read, first {faults[0]}. "
            "To run without them: dualfocus data prepare gqa-mcq --source DIR"
        )
    return Dataset.from_list(rows, features=Features({**GQA_MCQ.columns(), "image": ImageFeature(decode=False)}))


def doc_to_visual(doc: dict) -> list:
    return [open_image(doc["image"])]


def doc_to_text(doc: dict) -> str:
    return f"{doc['question'].strip()}\n{WORD_HINT}"


def mcq_doc_to_text(doc: dict) -> str:
    return f"{doc['text'].strip()}\n{LETTER_HINT}"


def process_results(doc: dict, results: list[str]) -> dict:
    prediction = gqa_match_form(answer_text(results))
    structural = (doc["types"] or {}).get("structural")
    record = {"score": float(prediction == doc["answer"]), "image_id": doc["imageId"]}
    return {
        **_scores(record, structural),
        "unanswered": {"counted": not prediction},
        "score": record["score"],
    }


def mcq_process_results(doc: dict, results: list[str]) -> dict:
    """The option that the letter names, or else the answer itself, compared with the right answer's text."""
    text = answer_text(results)
    options = [gqa_match_form(option) for option in doc["options"]]
    chosen = option_index(text, len(options))
    prediction = gqa_match_form(text) if chosen is None else options[chosen]
    record = {"score": float(prediction == doc["answer"]), "image_id": doc["image_id"]}
    return {
        **_scores(record, doc["question_type"]),
        "unread": {"counted": prediction not in options},
        "unanswerable": {"counted": doc["answer"] not in options},
        "score": record["score"],
    }


def _scores(record: dict, structural: str | None) -> dict:
    if structural not in STRUCTURAL:
        return {"accuracy": record}
    return {"accuracy": record, structural: record, "open" if structural == "query" else "binary": record}
