"""The prompt sets of grounding (Q1), of the second pass (Q2) and of scoring.

Checkpoints were trained with these exact texts: they are data, not style, and ``tests/method/prompts.json`` pins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dualfocus_eval.method.question import Question

__all__ = [
    "GENERAL_PROMPT",
    "LETTER_HINT",
    "PROMPT_SETS",
    "WORD_HINT",
    "grounding_prompt",
    "micro_prompt",
    "scoring_prompt",
    "scoring_question",
    "tile_prompt",
]

WORD_HINT = "Answer the question using a single word or phrase."
LETTER_HINT = "Answer with the option's letter from the given choices directly."
"""The format hints of LLaVA-1.5, for short answers and for multiple choice: in tasks, training and scoring."""


GENERAL_PROMPT = "Write a general description of the image."
"""What the attention to an image is compared with, by ``grounding=attention``: the instruction of Zhang et al."""


@dataclass(frozen=True)
class PromptSet:
    """One set of instructions; the question follows each after ``": "``."""

    grounding: str
    micro: str


PROMPT_SETS: Mapping[str, PromptSet] = {
    "released": PromptSet(
        grounding="Please provide the bounding box coordinate of the region this question asks",
        micro="Please combine the information from these two images and answer this question",
    ),
    "format1": PromptSet(
        grounding="Provide the coordinates of the region this question is asking about",
        micro="Combine these two images and answer the question",
    ),
    "figure8": PromptSet(
        grounding="Please provide the bounding box coordinate of the region this question asks",
        micro="Combine these two images and answer the question",
    ),
}
"""``released``: the released checkpoints'; ``format1``: section 3.2, format (1); ``figure8``: appendix D, figure 8."""


def grounding_prompt(question: Question, prompt_set: str) -> str:
    """Q1: asks for the region of the stem, without options or format hint. With a hint, MMBench's order."""
    instruction = PROMPT_SETS[prompt_set].grounding
    if question.hint is None:
        return f"{instruction}: {question.stem}"
    return "\n".join(part for part in (question.hint.strip(), question.stem, f"{instruction}.") if part)


def micro_prompt(question: Question, prompt_set: str) -> str:
    """Q2: asks for the answer from image and crop, with the task's full prompt."""
    return f"{PROMPT_SETS[prompt_set].micro}: {question.prompt}"


def scoring_prompt(question: Question, prompt_set: str) -> str:
    """The prompt under which both candidates are scored: Q2's instruction, the stem, and a fixed format hint."""
    return f"{PROMPT_SETS[prompt_set].micro}: {scoring_question(question)}"


def scoring_question(question: Question) -> str:
    """The stem and a fixed format hint, for contexts without an instruction."""
    return f"{question.stem} {WORD_HINT.removesuffix('.')}"


def tile_prompt(question: Question) -> str:
    """Asks of a part of the image whether it helps to answer. Of no prompt set: no checkpoint was trained with it."""
    return f"{_TILE}: {question.stem}\nAnswer yes or no."


_TILE = "Does this image show what is needed to answer the following question"
