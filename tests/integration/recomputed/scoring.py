"""How each embedded set scores a text: by lmms-eval's functions where it has the benchmark's, else in a few lines."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

__all__ = ["BENCHMARKS", "COUNTS", "Scores", "benchmark_of"]

Scores = dict[str, float]
"""The task's metrics of one answer: ``score`` from 0 to 1, and what else it reports of a question."""
Scorer = Callable[[Mapping[str, Any], str], Scores]

COUNTS = ("unanswered", "unread", "unanswerable", "judge_failed", "incomplete")
"""Metrics that count questions; all others are shares."""


def benchmark_of(task: str) -> str:
    """The key of `BENCHMARKS` for an embedded set."""
    return next(name for name in sorted(BENCHMARKS, key=len, reverse=True) if task.startswith(f"df_{name}"))


def _scenes(doc: Mapping[str, Any], text: str) -> Scores:
    said = _words(text)
    return {"score": said == _words(doc["answer"]) != [], "unanswered": not said}


def _words(text: str) -> list[str]:
    words = "".join(sign for sign in text.lower() if sign not in string.punctuation).split()
    return [word for word in words if word not in ("a", "an", "the")] or words


def _pope(doc: Mapping[str, Any], text: str) -> Scores:
    """The authors' rule: a no in the first sentence, else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    yes = not any(word in ("No", "not", "no") for word in words)
    return {"score": yes == (doc["answer"] == "yes"), "yes_ratio": yes, "unanswered": not text.strip()}


def _seed(doc: Mapping[str, Any], text: str) -> Scores:
    letter = _letter(text, "ABCD")
    if not letter:
        named = [each for each in "ABCD" if doc[f"choice_{each.lower()}"].lower() == text.strip().rstrip(".").lower()]
        letter = named[0] if len(named) == 1 else ""
    return {"score": letter == doc["answer"], "exact_letter": text.strip() == doc["answer"], "unread": not letter}


def _letter(text: str, letters: str) -> str:
    """A letter that stands alone, perhaps in brackets or before a mark."""
    found = re.match(r"\(?([A-Za-z])(?:[.):,](?:\s|$)|\)?\W*$)", text.strip())
    return found[1].upper() if found and found[1].upper() in letters else ""


def _mmbench(doc: Mapping[str, Any], text: str) -> Scores:
    options = {letter: str(doc[letter]) for letter in "ABCD" if str(doc[letter]) not in ("", "nan", "None")}
    read = _mmbench_rule()(text.strip(), options)
    return {"score": read == doc["answer"], "unread": not read, "judge_failed": False}


@cache
def _mmbench_rule() -> Callable[[str, dict[str, str]], str]:
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    rule: Callable[[str, dict[str, str]], str] = object.__new__(MMBench_Evaluator).can_infer
    return rule


def _gqa(doc: Mapping[str, Any], text: str) -> Scores:
    said = text.strip().rstrip(".").lower()
    return {"score": said == doc["answer"], "unanswered": not said}


def _gqa_mcq(doc: Mapping[str, Any], text: str) -> Scores:
    options = [option.lower() for option in doc["options"]]
    letter = _letter(text, "ABCD"[: len(options)])
    said = options["ABCD".index(letter)] if letter else text.strip().rstrip(".").lower()
    return {
        "score": said == doc["answer"],
        "unread": said not in options,
        "unanswerable": doc["answer"] not in options,
    }


def _textvqa(doc: Mapping[str, Any], text: str) -> Scores:
    """The mean over the ten ways to leave one answer out of min(1, matches / 3)."""
    said, answers = _plain_answer()(text), [_plain_answer()(answer) for answer in doc["answers"]]
    shares = [
        min(1.0, sum(answer == said for answer in answers[:left] + answers[left + 1 :]) / 3)
        for left in range(len(answers))
    ]
    return {"score": sum(shares) / len(shares), "unanswered": not text.strip()}


@cache
def _plain_answer() -> Callable[[str], str]:
    from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor

    processor: Callable[[str], str] = EvalAIAnswerProcessor()
    return processor


BENCHMARKS: Mapping[str, Scorer] = {
    "scenes": _scenes,
    "pope": _pope,
    "seed": _seed,
    "mmbench": _mmbench,
    "gqa": _gqa,
    "gqa_mcq": _gqa_mcq,
    "textvqa": _textvqa,
}
