"""TextVQA: questions about text in images, scored by VQA accuracy over ten answers, as the challenge's server does."""

from __future__ import annotations

import json
import re
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.task_functions import answer_text, count, doc_to_visual, mean_score, undecoded
from dualfocus_eval.method.prompts import WORD_HINT

__all__ = [
    "collect_submission",
    "count",
    "doc_to_target",
    "doc_to_text",
    "doc_to_text_with_tokens",
    "doc_to_visual",
    "mean_score",
    "process_results",
    "with_stems",
    "write_submission",
]

TOKENS = "Reference OCR token:"

NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = ("a", "an", "the")
MARKS = ';/[]"{}()=+\\_-><@`,?!'
CONTRACTIONS = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
SPELLINGS = {"somebody'd": "somebodyd"} | {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTIONS.split()
    for place, sign in enumerate(word)
    if sign == "'"
}
"""From contractions that lack one apostrophe to the right ones; one is the wrong way round in the official table."""
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = 32
"""The official processor passes a flag of this value where the number of replacements belongs."""


def with_stems(dataset: Any) -> Any:
    """Adds ``stem``: the question as LLaVA's question file has it; the release's is in lower case throughout."""
    questions = (question.strip() for question in dataset.select_columns(["question"])["question"])
    return undecoded(dataset.add_column("stem", [question[:1].upper() + question[1:] for question in questions]))


def doc_to_text(doc: dict) -> str:
    return f"{doc['stem']}\n{WORD_HINT}"


def doc_to_text_with_tokens(doc: dict) -> str:
    """LLaVA-1.5's prompt. Raises ``UserError`` for a row whose tokens are not known, which is not one without any."""
    if doc.get("ocr_tokens") is None:
        raise UserError(
            f"question {doc.get('question_id')} has no OCR tokens: put TextVQA_Rosetta_OCR_v0.2_val.json beside the "
            "official files and run `dualfocus data prepare textvqa` again, or run df_textvqa_val, which needs none"
        )
    return f"{doc['stem']}\n{TOKENS} {', '.join(doc['ocr_tokens'])}\n{WORD_HINT}"


def doc_to_target(doc: dict) -> str:
    """The best of the ten answers, for the log; empty for the test split, whose answers are not published."""
    answers = doc.get("answers") or []
    plain = [normalise(answer) for answer in answers]
    return max(answers, key=lambda answer: vqa_accuracy(normalise(answer), plain), default="")


def normalise(text: str) -> str:
    """The official answer processor: case, marks, number words, articles and contractions."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    plain = text
    for mark in MARKS:
        # A mark next to a space anywhere goes without trace, everywhere; else it parts words.
        plain = plain.replace(mark, "" if f"{mark} " in text or f" {mark}" in text else " ")
    plain = PERIOD.sub("", plain, count=MOST_PERIODS)
    words = [NUMBERS.get(word, word) for word in plain.split()]
    return " ".join(SPELLINGS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(prediction: str, answers: list[str]) -> float:
    """Mean of min(1, matches / 3) over the subsets that leave one answer out; texts normalised. 0 without answers."""
    if not answers:
        return 0.0
    matches = sum(answer == prediction for answer in answers)
    shares = [min(1.0, (matches - (answer == prediction)) / 3) for answer in answers]
    return sum(shares) / len(shares)


def process_results(doc: dict, results: list[str]) -> dict:
    text = answer_text(results).strip()
    score = vqa_accuracy(normalise(text), [normalise(answer) for answer in doc.get("answers") or []])
    return {
        "vqa_accuracy": {"score": score, "image_id": doc["image_id"]},
        "unanswered": {"counted": not text},
        "score": score,
    }


def collect_submission(doc: dict, results: list[str]) -> dict:
    """The answer as it is, since the server normalises, and no score: the test split's answers are not published."""
    text = answer_text(results).strip()
    return {"submission": {"question_id": int(doc["question_id"]), "answer": text}, "unanswered": {"counted": not text}}


def write_submission(records: list[dict], args: Any) -> int:
    """Write the file that the challenge's server scores; the number of its answers."""
    from lmms_eval.tasks._task_utils.file_utils import generate_submission_file
    from loguru import logger

    path = generate_submission_file("textvqa_test.json", args)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(sorted(records, key=lambda record: record["question_id"]), file)
    logger.info(f"TextVQA's submission file: {path}")
    return len(records)
