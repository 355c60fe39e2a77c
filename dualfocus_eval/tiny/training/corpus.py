"""The words of the embedded checkpoint: everything that its prompts, questions and answers are made of."""

from __future__ import annotations

import random
from collections.abc import Iterator

from dualfocus_eval.method.prompts import LETTER_HINT, PROMPT_SETS, WORD_HINT, micro_prompt
from dualfocus_eval.tiny.scenes.layout import COLORS, NAMES, compose
from dualfocus_eval.tiny.scenes.questions import ask
from dualfocus_eval.tiny.training.patch_labels import SLOTS
from dualfocus_eval.tiny.training.scene_conversations import as_question

__all__ = ["PHRASES", "scene_corpus"]

PHRASES = (
    *dict.fromkeys(text for prompt_set in PROMPT_SETS.values() for text in (prompt_set.grounding, prompt_set.micro)),
    WORD_HINT.removesuffix("."),
)
"""The instructions that every prompt repeats."""
SCENES = 400
"""Enough scenes to meet every question template, object name and answer many times."""


def scene_corpus(prompt_set: str) -> Iterator[str]:
    """Texts whose every word becomes one token of the vocabulary."""
    rng = random.Random("dualfocus-corpus")
    yield from (
        "USER: \nASSISTANT: [0.00, 0.00, 1.00, 1.00]",
        LETTER_HINT,
    )
    for words in SLOTS.values():
        yield from words
    yield from (f"the {word}" for word in (*NAMES, *COLORS))
    yield from (f"{entry.grounding}: {entry.micro}: " for entry in PROMPT_SETS.values())
    for index in range(SCENES):
        for entry in ask(compose(-1, index), rng):
            yield micro_prompt(as_question(entry), prompt_set)
            yield entry.answer
