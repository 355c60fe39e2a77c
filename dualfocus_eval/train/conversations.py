"""Training conversations over scenes: plain questions, grounding, and the two rounds of format (1), section 3.2."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dualfocus_eval.data.scenes.layout import PixelBox, Scene, compose
from dualfocus_eval.data.scenes.questions import SceneQuestion, ask, balanced
from dualfocus_eval.data.scenes.render import paint
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import Box, format_box
from dualfocus_eval.method.crops import crop_of, crop_picture
from dualfocus_eval.method.prompts import grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question

__all__ = ["FORMAT_HINT", "Sample", "SceneConversations", "region_box"]

FORMAT_HINT = "Answer the question using a single word or phrase."
WRONG_BOX_SHARE = 0.1
"""Share of two-round samples whose box is not the question's, so that a bad crop costs confidence in the answer."""
SCORING_SHARE = 0.25
"""Share of second rounds under the scoring prompt instead of Q2."""
MACRO_TURNS, GROUNDING_TURNS, MICRO_TURNS = 6, 5, 3


@dataclass(frozen=True)
class Sample:
    """A conversation in transformers' chat format, and which of its assistant turns are targets."""

    messages: tuple[Mapping[str, Any], ...]
    targets: tuple[bool, ...]


class SceneConversations(Sequence[Sample]):
    """One sample per scene; its kind is drawn by ``mix``. Deterministic in (seed, index)."""

    def __init__(
        self, seed: int, start: int, samples: int, mix: Mapping[str, float], *, wording: str, margin: float
    ) -> None:
        self.seed, self.start, self.samples = seed, start, samples
        self.kinds, self.weights = tuple(mix), tuple(mix.values())
        self.wording, self.margin = wording, margin

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        rng = random.Random(f"conversations/{self.seed}/{self.start + index}")
        scene = compose(self.seed, self.start + index)
        image = paint(scene)
        questions = balanced(ask(scene, rng), rng)
        kind = rng.choices(self.kinds, self.weights)[0]
        if kind == "macro":
            return self._macro(image, questions[:MACRO_TURNS])
        if kind == "grounding":
            return self._grounding(scene, image, questions[:GROUNDING_TURNS])
        return self._dualfocus(scene, image, questions, rng)

    def _macro(self, image: Image.Image, questions: Sequence[SceneQuestion]) -> Sample:
        turns = [(as_question(entry).prompt, entry.answer) for entry in questions]
        return _sample([image], [0], turns)

    def _grounding(self, scene: Scene, image: Image.Image, questions: Sequence[SceneQuestion]) -> Sample:
        turns = [
            (grounding_prompt(as_question(entry), self.wording), _written(region_box(scene, entry.region), image))
            for entry in questions
        ]
        return _sample([image], [0], turns)

    def _dualfocus(
        self, scene: Scene, image: Image.Image, questions: list[SceneQuestion], rng: random.Random
    ) -> Sample:
        """Round one grounds the first question; round two asks it and others about the same objects."""
        asked = questions[0]
        region = asked.region
        wrong = rng.random() < WRONG_BOX_SHARE
        if wrong:
            region = rng.choice(questions).region
        box = region_box(scene, region)
        seen = box if wrong else _blurred(box, rng)
        crop = crop_of(seen, image.size, margin=self.margin)
        if crop is None:
            raise ValueError(f"{scene.image_id}: region {region} leaves no crop")
        related = [entry for entry in questions[1:] if entry.region == asked.region]
        turns = [(grounding_prompt(as_question(asked), self.wording), _written(box, image))]
        for entry in [asked, *related[: MICRO_TURNS - 1]]:
            prompt = scoring_prompt if rng.random() < SCORING_SHARE else micro_prompt
            turns.append((prompt(as_question(entry), self.wording), entry.answer))
        zoomed = crop_picture(Picture(image), crop).pixels
        return _sample([image, zoomed], [0, 1], turns, untrained=(0,) if wrong else ())


def as_question(entry: SceneQuestion) -> Question:
    """The question as the harness poses it: the task's prompt with LLaVA's format hint."""
    return Question(key="", prompt=f"{entry.question}\n{FORMAT_HINT}", stem=entry.question, images=())


def region_box(scene: Scene, region: PixelBox) -> Box:
    """``region`` as fractions of the image."""
    return Box(region[0] / scene.width, region[1] / scene.height, region[2] / scene.width, region[3] / scene.height)


def _written(box: Box, image: Image.Image) -> str:
    return format_box(box, "unit", image_size=image.size)


def _blurred(box: Box, rng: random.Random) -> Box:
    """What the model will really look at: its own box, off by a few hundredths."""
    return Box(*(value + rng.gauss(0, 0.015) for value in (box.x1, box.y1, box.x2, box.y2))).clipped()


def _sample(
    images: Sequence[Image.Image],
    rounds: Sequence[int],
    turns: Sequence[tuple[str, str]],
    untrained: Sequence[int] = (),
) -> Sample:
    """Chat messages of ``turns`` with image k at the head of turn ``rounds[k]``."""
    messages: list[Mapping[str, Any]] = []
    for number, (prompt, answer) in enumerate(turns):
        pictures = [
            {"type": "image", "image": image} for image, turn in zip(images, rounds, strict=True) if turn == number
        ]
        messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return Sample(tuple(messages), tuple(number not in untrained for number in range(len(turns))))
