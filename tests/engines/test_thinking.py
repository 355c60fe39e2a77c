"""Thinking before the answer: told from it by the checkpoint's markers, within its budget, and never part of a turn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Failure,
    GenerateRequest,
    Message,
    Picture,
    Score,
    ScoreRequest,
    Thinking,
)
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.engines.template import ChatTemplate, RenderingError
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import ThinkingMarkers
from tests.engines.thinking_models import CLOSING, OPENING, TEMPLATES, thinking_checkpoint

noise = np.random.default_rng(0)
RED, NOISE, CROP = (
    Picture(Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    for width, height in ((50, 40), (40, 70), (30, 30))
)
QUESTIONS: tuple[Conversation, ...] = tuple(
    (Message("user", (picture, text)),)
    for picture in (RED, NOISE)
    for text in ("is there a red cup", "what colour has the ball", "how many people are in the picture", "yes or no")
)
BUDGET, LONGEST = 40, 9
checkpoint_of = functools.cache(thinking_checkpoint)


def second_round(answer: Sequence[int]) -> Conversation:
    return (*QUESTIONS[0], Message("assistant", ("unused",), tuple(answer)), Message("user", (CROP, "and this")))


# Against plain transformers, split by hand.


@torch.inference_mode()
def by_hand(checkpoint: Checkpoint, prompt: str, pictures: Sequence[Picture], opened: bool) -> dict[str, Any] | str:
    """What plain transformers generates after ``prompt``, taken apart; or the kind of the failure."""
    processor, tokenizer = checkpoint.processor, checkpoint.processor.tokenizer
    images = [picture.pixels for picture in pictures]
    inputs = processor(text=prompt, images=images, return_tensors="pt")
    output = checkpoint.model.generate(
        **inputs,
        generation_config=checkpoint.generation_config,
        max_new_tokens=BUDGET + LONGEST + 1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    logprobs = torch.log_softmax(torch.cat(output.scores), dim=-1)[torch.arange(len(ids)), ids].tolist()
    begin = 0
    if opened or tokenizer.decode(ids[0]) == OPENING:
        closing = tokenizer.convert_tokens_to_ids(CLOSING)
        if closing not in ids[:BUDGET]:
            return "thinking_unfinished" if ids[-1] in checkpoint.end_ids and len(ids) <= BUDGET else "thinking_budget"
        begin = ids.index(closing) + 1
        while begin < len(ids) and not tokenizer.decode(ids[begin]).strip():
            begin += 1
    return {"ids": ids[begin : begin + LONGEST], "logprobs": logprobs[begin : begin + LONGEST], "thinking": begin}


def agrees(found: Completion | Failure, expected: dict[str, Any] | str) -> bool:
    if isinstance(found, Failure) or isinstance(expected, str):
        return isinstance(found, Failure) and found.kind == expected
    close = np.allclose(found.logprobs, expected["logprobs"], atol=1e-4)
    thought = found.thinking.tokens if found.thinking else 0
    return list(found.token_ids) == expected["ids"] and close and thought == expected["thinking"]


@functools.cache
def expected_of(template: str, opens: bool) -> list[dict[str, Any] | str]:
    checkpoint = checkpoint_of(template, opens=opens)
    prompts = [checkpoint.processor.apply_chat_template(_messages(c), add_generation_prompt=True) for c in QUESTIONS]
    opened = prompts[0].rstrip().endswith(OPENING)
    pictures = [[part for part in c[0].content if isinstance(part, Picture)] for c in QUESTIONS]
    return [by_hand(checkpoint, *each, opened) for each in zip(prompts, pictures, strict=True)]


def _messages(conversation: Conversation) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in message.content
            ],
        }
        for message in conversation
    ]


@pytest.mark.parametrize(("batch_size", "budget"), [(1, 0), (3, 1 << 28), (16, 1 << 28)])
@pytest.mark.parametrize(
    ("template", "opens"), [("opens", False), ("closes by default", False), ("leaves it to the model", True)]
)
def test_answers_are_those_of_plain_transformers_after_the_thinking(
    template: str, opens: bool, batch_size: int, budget: int
) -> None:
    engine = TransformersEngine(checkpoint_of(template, opens=opens), batch_size, budget)
    found = engine.generate([GenerateRequest(question, LONGEST, (), BUDGET) for question in QUESTIONS])
    expected = expected_of(template, opens)
    assert all(map(agrees, found, expected)), (found, expected)
    answered = [one for one in found if isinstance(one, Completion)]
    assert len(answered) > len(QUESTIONS) // 2
    assert all((one.thinking is None) == (template == "closes by default") for one in answered)


# What the test above has to have met.


def test_the_thoughts_of_these_models_differ_in_length_and_some_run_out() -> None:
    lengths = [one["thinking"] for one in expected_of("opens", False) if not isinstance(one, str)]
    assert len(set(lengths)) > 2
    engine = TransformersEngine(checkpoint_of("opens"), 8, 0)
    few = sorted(lengths)[1]
    results = engine.generate([GenerateRequest(question, LONGEST, (), few - 1) for question in QUESTIONS])
    failures = [one for one in results if isinstance(one, Failure)]
    assert {one.kind for one in failures} >= {"thinking_budget"}
    assert len(failures) < len(results)
    assert any(f"{few - 1} tokens of thinking and no answer; raise max_thinking_tokens" in f.message for f in failures)
    assert engine.counters.thinking_tokens > len(failures) * (few - 1)
