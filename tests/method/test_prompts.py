"""The exact prompt sets are pinned: a checkpoint trained with one is worth less with any other."""

import json
from pathlib import Path

import pytest

from dualfocus_eval.method.prompts import PROMPT_SETS, grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question

SNAPSHOT = json.loads((Path(__file__).parent / "prompts.json").read_text())
QUESTIONS = {
    "plain": Question(
        "k", "What is on the wall?\nAnswer the question using a single word or phrase.", "What is on the wall?", ()
    ),
    "hint": Question(
        "k",
        "A kitchen.\nWhat is on the wall?\nA. A clock\nB. A lamp\n"
        "Answer with the option's letter from the given choices directly.",
        "What is on the wall?",
        (),
        hint="A kitchen.",
    ),
    "empty_hint": Question("k", "What is on the wall?", "What is on the wall?", (), hint=""),
}


@pytest.mark.parametrize("prompt_set", sorted(PROMPT_SETS))
@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_prompts_are_as_pinned(prompt_set: str, name: str) -> None:
    question = QUESTIONS[name]
    assert {
        "grounding": grounding_prompt(question, prompt_set),
        "micro": micro_prompt(question, prompt_set),
        "scoring": scoring_prompt(question, prompt_set),
    } == SNAPSHOT[prompt_set][name]


def test_grounding_gets_neither_options_nor_format_hint() -> None:
    for prompt_set in PROMPT_SETS:
        text = grounding_prompt(QUESTIONS["hint"], prompt_set)
        assert "A. A clock" not in text
        assert "directly" not in text
