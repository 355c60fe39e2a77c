"""MMBench: up to four options, asked under every rotation of them; a question counts when all its rotations are right.

Records are one per row. Only ``vanilla`` and ``score`` are means over records, so that only they get standard errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dualfocus_eval.datasets.mmbench import LETTERS, ROTATION
from dualfocus_eval.harness.llm_judge import ask, judge_model
from dualfocus_eval.harness.task_functions import answer_text, doc_to_visual, is_blank, lettered_prompt, undecoded

__all__ = [
    "circular",
    "collect_submission",
    "count_incomplete",
    "count_judge_failed",
    "count_unread",
    "doc_to_text",
    "doc_to_visual",
    "process_results",
    "undecoded",
    "vanilla",
    "write_submission",
]

NONE_OF_THEM = "E"
L2_CATEGORIES = (
    "attribute_reasoning",
    "coarse_perception",
    "finegrained_perception_cross_instance",
    "finegrained_perception_instance_level",
    "logic_reasoning",
    "relation_reasoning",
)
L3_CATEGORIES = (
    "action_recognition",
    "attribute_comparison",
    "attribute_recognition",
    "celebrity_recognition",
    "function_reasoning",
    "future_prediction",
    "identity_reasoning",
    "image_emotion",
    "image_quality",
    "image_scene",
    "image_style",
    "image_topic",
    "nature_relation",
    "object_localization",
    "ocr",
    "physical_property_reasoning",
    "physical_relation",
    "social_relation",
    "spatial_relationship",
    "structuralized_imagetext_understanding",
)
# In this order, each by itself: an answer with "B." and "(C)" is a B.
MARKS = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."),
    (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip
UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no xlsx file can hold."""
JUDGE_PROMPT = """\
A model answered a multiple-choice question in its own words. Which option did it mean?

Question: {question}
{options}
Its answer: {answer}

Reply with the letter of that option and nothing else; with {none} if it meant none of them, or more than one."""


def doc_to_text(doc: dict) -> str:
    prompt = lettered_prompt(doc["question"], options(doc))
    hint = doc.get("hint")
    return prompt if is_blank(hint) else f"{hint.strip()}\n{prompt}"


def options(doc: dict) -> dict[str, str]:
    """The options by letter; two, three or four."""
    return {letter: str(doc[letter]) for letter in LETTERS if not is_blank(doc.get(letter))}


def _option_lines(texts: Mapping[str, str]) -> list[str]:
    return [f"{letter}. {text}" for letter, text in texts.items()]


def read_answer(text: str, texts: Mapping[str, str]) -> str:
    """The letter that an answer means by the official rule; ``""`` where the rule cannot tell.

    The one letter from A to E that stands alone, or else before or after a mark; or else the one option whose text the
    answer contains. A letter may be beyond the question's options, and is wrong then.
    """
    return _letter_in(text) or _option_in(text, texts)


def _letter_in(text: str) -> str:
    words = text.split()
    for before, after in (("", ""), *MARKS):
        named = [letter for letter in LETTERS + NONE_OF_THEM if f"{before}{letter}{after}" in words]
        # In longer answers a bare A may be the article.
        if len(named) == 1 and not (named == ["A"] and not before + after and len(words) > 3):
            return named[0]
    return ""


def _option_in(text: str, texts: Mapping[str, str]) -> str:
    contained = [letter for letter, option in texts.items() if option.lower() in text.lower()]
    return contained[0] if len(contained) == 1 else ""


def process_results(doc: dict, results: list[str]) -> dict:
    text, texts, index = answer_text(results).strip(), options(doc), int(doc["index"])
    prediction, answer = read_answer(text, texts), str(doc["answer"]).strip()
    correct = float(prediction == answer)
    record = {"index": index, "answer": answer, "prediction": prediction, "options": texts}
    if not prediction:
        record |= {"text": text, "question": doc["question"]}
    metrics = {
        "circular": record,
        _metric(doc.get("L2-category") or doc.get("l2-category")): record,
        _metric(doc.get("category")): record,
        "incomplete": {"index": index, "rotations": len(texts)},
        "unread": record,
        "judge_failed": record,
        "score": correct,
    }
    if index < ROTATION:
        metrics["vanilla"] = record | {"score": correct, "image_id": str(index)}
    return {name: value for name, value in metrics.items() if name}


def _metric(category: Any) -> str:
    """The metric of a category; ``""`` for one that MMBench does not have."""
    name = re.sub(r"[^a-z0-9]+", "_", str(category).lower()).strip("_")
    return name if name in L2_CATEGORIES or name in L3_CATEGORIES else ""


def _final(record: dict) -> str:
    """The letter read by rule, or else by the judge where there is one; ``""`` for neither."""
    return record["prediction"] or (_judged(record) or "")


def _judged(record: dict) -> str | None:
    """The letter that the judge gives; ``""`` where it finds no option or was not asked, None where it failed."""
    if record["prediction"] or not record["text"] or not judge_model():
        return ""
    prompt = JUDGE_PROMPT.format(
        question=record["question"].strip(),
        options="\n".join(_option_lines(record["options"])),
        answer=record["text"],
        none=NONE_OF_THEM,
    )
    letter = _letter_in(ask(prompt) or "")
    if letter == NONE_OF_THEM:
        return ""
    return letter if letter in record["options"] else None


def _is_right(record: dict) -> bool:
    return _final(record) == record["answer"]


def circular(records: list[dict]) -> float:
    """Share of the questions that are right in every row of theirs."""
    right: dict[int, bool] = {}
    for record in records:
        question = record["index"] % ROTATION
        right[question] = right.get(question, True) and _is_right(record)
    return sum(right.values()) / len(right)


def vanilla(records: list[dict]) -> float:
    """Share of the rows as they stand in the release, options not rotated, that are right."""
    return sum(_is_right(record) for record in records) / len(records)


def count_unread(records: list[dict]) -> int:
    return sum(not _final(record) for record in records)


def count_judge_failed(records: list[dict]) -> int:
    return sum(_judged(record) is None for record in records)


def count_incomplete(records: list[dict]) -> int:
    """Questions that were not asked under every rotation: their share of ``circular`` is easier than it should be."""
    from loguru import logger

    rows: dict[int, set[int]] = {}
    for record in records:
        rows.setdefault(record["index"] % ROTATION, set()).add(record["index"])
    needed = {record["index"] % ROTATION: record["rotations"] for record in records}
    incomplete = sum(len(found) < needed[question] for question, found in rows.items())
    if incomplete:
        logger.warning(
            f"{incomplete} of {len(rows)} MMBench questions were not asked under every rotation of their options, "
            "which inflates the circular accuracy: run without --limit and --offset"
        )
    return incomplete


def collect_submission(doc: dict, results: list[str]) -> dict:
    text, texts = answer_text(results).strip(), options(doc)
    return {
        "submission": {
            "index": int(doc["index"]),
            "question": doc["question"],
            **{letter: texts.get(letter) for letter in LETTERS},
            "prediction": text,
            "split": doc.get("split"),
        },
        "unread": {"prediction": read_answer(text, texts), "text": ""},
    }


def write_submission(records: list[dict], args: Any) -> int:
    """Write the file that the official server scores; the number of its rows."""
    from lmms_eval.tasks._task_utils.file_utils import generate_submission_file
    from loguru import logger
    from openpyxl import Workbook

    path = generate_submission_file("mmbench_en_test.xlsx", args)
    book = Workbook()
    sheet = book.active
    sheet.append(list(records[0]))
    for record in sorted(records, key=lambda record: record["index"]):
        sheet.append([UNWRITABLE.sub("", value) if isinstance(value, str) else value for value in record.values()])
        for cell in sheet[sheet.max_row]:
            if isinstance(cell.value, str):
                cell.data_type = "s"  # also what begins with =, which would be a formula
    book.save(path)
    logger.info(f"MMBench's submission file: {path}")
    return len(records)
