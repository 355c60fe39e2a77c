"""Questions about random pictures, and an engine that answers them in two scored passes, for measuring speed.

Random weights (`measurements.sized_models`) write no box, and often answer both pathways alike. So
- what is generated for Q1 is kept token for token, and read as a given box;
- the micro answer's last token is changed, so that the two candidates differ and both are scored.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import engine_of
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.prompts import grounding_prompt
from dualfocus_eval.method.question import Question
from measurements.random_models.parts import WORDS

__all__ = ["ANSWER_TOKENS", "BOX_TOKENS", "PROMPT_SET", "ScriptedEngine", "apart", "questions"]

PROMPT_SET = "released"
ANSWER_TOKENS = 4
BOX_TOKENS = 16
"""What `[0.25, 0.50, 0.75, 1.00]` takes in LLaVA's vocabulary, give or take a few."""


def questions(
    images: int, per_image: int, seed: int, *, side: int = 640, answer_tokens: int = ANSWER_TOKENS
) -> tuple[list[Question], dict[str, str]]:
    """Questions of seven to twelve words about pictures of 4:3, and the box to be written for each Q1.

    ``side`` is a picture's width in pixels.
    """
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    asked, boxes = [], {}
    for image in range(images):
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = Picture(coarse.resize((side, side * 3 // 4), Image.Resampling.BICUBIC))
        for number in range(per_image):
            stem = " ".join(rng.choices(WORDS, k=rng.randint(7, 12))) + "?"
            x, y = rng.uniform(0.0, 0.6), rng.uniform(0.0, 0.6)
            box = Box(x, y, x + rng.uniform(0.1, 0.4), y + rng.uniform(0.1, 0.4))
            prompt = f"{stem}\nAnswer the question using a single word or phrase."
            question = Question(f"{image}/{number}", prompt, stem, (picture,), max_new_tokens=answer_tokens)
            asked.append(question)
            boxes[grounding_prompt(question, PROMPT_SET)] = format_box(box, image_size=picture.pixels.size)
    return asked, boxes


def apart(candidate: tuple[int, ...], vocabulary: int) -> tuple[int, ...]:
    """The candidate with another last token, none of the three special ones that come first in the vocabulary."""
    *kept, last = candidate
    return (*kept, 3 + (last - 2) % (vocabulary - 3))


class ScriptedEngine(Engine):
    """The checkpoint's own engine, but boxes read as given and micro answers are set apart; see the module's docstring.

    ``batch_size`` counts conversations.
    """

    def __init__(
        self, checkpoint: Checkpoint, batch_size: int, prefix_cache_bytes: int, boxes: Mapping[str, str]
    ) -> None:
        self.engine = engine_of(checkpoint, batch_size, prefix_cache_bytes)
        self.boxes = boxes

    @property
    def counters(self) -> Counters:
        return self.engine.counters

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """See `Engine.generate`."""
        results = self.engine.generate(requests)
        vocabulary = len(self.engine.checkpoint.processor.tokenizer)
        for number, (request, result) in enumerate(zip(requests, results, strict=True)):
            if isinstance(result, Failure):
                continue
            if any(message.role == "assistant" for message in request.conversation):
                ids = apart(result.token_ids, vocabulary)
                results[number] = replace(result, text=f"{result.text} (micro)", token_ids=ids)
            elif box := self.boxes.get(str(request.conversation[-1].content[-1])):
                results[number] = replace(result, text=box)
        return results

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """See `Engine.score`."""
        return self.engine.score(requests)

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """See `Engine.continuation`."""
        return self.engine.continuation(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """See `Engine.encoded_size`."""
        return self.engine.encoded_size(picture)
