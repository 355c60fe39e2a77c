"""Grounding by attention takes no more memory than asking for a box, whatever the number of layers.

Memory is what torch allocates on the CPU beyond the weights: the highest sum, at any moment, of all that is allocated
and not yet freed since the measuring began, by torch's own profiler. It is the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from dualfocus_eval.engines.attention import AttentionRequest
from dualfocus_eval.engines.base import GenerateRequest, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.families import family_of
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.passes import check, first_pass
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from measurements import sized_models

MOST = 1.1
"""Of the memory that ``text_box`` takes."""


def allocated(run: Callable[[], object]) -> int:
    """Bytes at the peak of what ``run`` allocates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as found:
        run()
    sizes = [(event.start_ns(), event.nbytes()) for event in _events(found) if event.name() == "[memory]"]
    total = peak = 0
    for _, size in sorted(sizes, key=lambda one: one[0]):
        total += size
        peak = max(peak, total)
    return peak


def _events(found: profile) -> list[object]:
    return found.profiler.kineto_results.events()  # type: ignore[union-attr]


def sized(architecture: str, size: str) -> Checkpoint:
    model, processor = sized_models.build(architecture, size)
    return prepare(model, processor, family_of(architecture), architecture)


def questions(count: int, side: int) -> list[Question]:
    noise = np.random.default_rng(0)
    pictures = [Picture(Image.fromarray(noise.integers(0, 256, (side, side, 3), dtype=np.uint8))) for _ in range(count)]
    texts = [f"is there a red cup on the left of table {number}" for number in range(count)]
    return [
        Question(f"q{number}", text, text, (picture,), max_new_tokens=4)
        for number, (text, picture) in enumerate(zip(texts, pictures, strict=True))
    ]


def grounding_peak(checkpoint: Checkpoint, grounding: str, side: int) -> int:
    """Of the first pass, which is all that differs: macro answers and grounding, of four questions in one batch."""
    engine, settings = TransformersEngine(checkpoint, 8, 1 << 30), Settings(grounding=grounding, max_box_tokens=8)
    checked = [check(question, settings) for question in questions(4, side)]
    return allocated(lambda: first_pass(checked, engine, settings, macro=True))


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl"])
def test_the_peak_is_within_a_tenth_of_asking_for_a_box(architecture: str) -> None:
    checkpoint = sized(architecture, "tiny")
    attention, text_box = (grounding_peak(checkpoint, name, 336) for name in ("attention", "text_box"))
    assert attention <= MOST * text_box


@pytest.mark.prove
def test_so_it_is_for_a_model_of_100_million_parameters() -> None:
    checkpoint = sized("llava", "100m")
    attention, text_box = (grounding_peak(checkpoint, name, 336) for name in ("attention", "text_box"))
    assert attention <= MOST * text_box


def test_reading_takes_the_same_however_many_layers_there_are(checkpoint_of: Callable[..., Checkpoint]) -> None:
    """What attending takes beyond answering with one token, of the same prompts without a prefix cache."""
    conversations = [macro_conversation(question) for question in questions(4, 64)]
    extra = []
    for layers in (1, 3):
        checkpoint = checkpoint_of("llava")
        decoder = checkpoint.model.model.language_model
        every, decoder.layers = decoder.layers, decoder.layers[:layers]
        try:
            engine = TransformersEngine(checkpoint, 8, 0)
            requests = [GenerateRequest(one, 1) for one in conversations]
            engine.generate(requests)  # the pictures are encoded
            answering = allocated(lambda engine=engine, requests=requests: engine.generate(requests))
            reading = allocated(lambda engine=engine: engine.attend(list(map(AttentionRequest, conversations)), 0))
            extra.append(reading - answering)
        finally:
            decoder.layers = every
    assert extra[1] <= max(extra[0], 0) + torch.float32.itemsize * 1024
