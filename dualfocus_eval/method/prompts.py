"""The wordings of grounding (Q1), of the second pass (Q2) and of scoring.

Checkpoints were trained with these exact texts: they are data, not style, and ``tests/method/prompts.json`` pins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dualfocus_eval.method.question import Question

__all__ = ["WORDINGS", "Wording", "grounding_prompt", "micro_prompt", "scoring_prompt"]

_SHORT_ANSWER = "Answer the question using a single word or phrase"


@dataclass(frozen=True)
class Wording:
    """One set of instructions; the question follows each after ``": "``."""

    grounding: str
    micro: str


WORDINGS: Mapping[str, Wording] = {
    "released": Wording(
        grounding="Please provide the bounding box coordinate of the region this question asks",
        micro="Please combine the information from these two images and answer this question",
    ),
    "format1": Wording(
        grounding="Provide the coordinates of the region this question is asking about",
        micro="Combine these two images and answer the question",
    ),
    "figure8": Wording(
        grounding="Please provide the bounding box coordinate of the region this question asks",
        micro="Combine these two images and answer the question",
    ),
}
"""``released``: the released checkpoints'; ``format1``: section 3.2, format (1); ``figure8``: appendix D, figure 8."""


def grounding_prompt(question: Question, wording: str) -> str:
    """Q1: asks for the region of the stem, without options or format hint. With a hint, MMBench's order."""
    instruction = WORDINGS[wording].grounding
    if question.hint is None:
        return f"{instruction}: {question.stem}"
    return "\n".join(part for part in (question.hint.strip(), question.stem, f"{instruction}.") if part)


def micro_prompt(question: Question, wording: str) -> str:
    """Q2: asks for the answer from image and crop, with the task's full prompt."""
    return f"{WORDINGS[wording].micro}: {question.prompt}"


def scoring_prompt(question: Question, wording: str) -> str:
    """The prompt under which both candidates are scored: Q2's instruction, the stem, and a fixed format hint."""
    return f"{WORDINGS[wording].micro}: {question.stem} {_SHORT_ANSWER}"
