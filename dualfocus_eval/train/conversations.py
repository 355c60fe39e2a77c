"""Training conversations over scenes: plain questions, grounding, and the two rounds of format (1), section 3.2."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dualfocus_eval.data.scenes.layout import PixelBox, Scene, compose, within
from dualfocus_eval.data.scenes.questions import SceneQuestion, ask, balanced
from dualfocus_eval.data.scenes.render import paint
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import Box, format_box
from dualfocus_eval.method.crops import Crop, crop_of, crop_picture
from dualfocus_eval.method.prompts import grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question

__all__ = ["ASPECTS", "FORMAT_HINT", "Evidence", "Sample", "SceneConversations", "Turn", "as_question", "region_box"]

FORMAT_HINT = "Answer the question using a single word or phrase."
WRONG_BOX_SHARE = 0.1
"""Share of two-round samples whose box is not the question's, so that a bad crop costs confidence in the answer."""
SCORING_SHARE = 0.25
"""Share of second rounds under the scoring prompt instead of Q2."""
MACRO_TURNS, GROUNDING_TURNS, MICRO_TURNS = 6, 5, 6
PATCH_LABELS = {
    "mark_color": "mark_color",
    "mark_shape": "mark_shape",
    "text": "mark_shape",
    "mark_size": "mark_size",
    "object_color": "color",
}
"""Kind of question to the patch label that answers it."""
ASPECTS = tuple(dict.fromkeys(PATCH_LABELS.values()))
"""What of its evidence a question is about: questions of one aspect read the same from a patch."""

Evidence = tuple[tuple[int, Box], ...]
"""Where an answer is to be seen: (image number, box as fractions of that image)."""


@dataclass(frozen=True)
class Turn:
    """What is asked and answered, and on which pixels the answer rests."""

    prompt: str
    answer: str
    evidence: Evidence = ()
    trained: bool = True
    grounding: bool = False
    """Whether the answer is a box."""
    aspect: int = -1
    """Position in `ASPECTS`, or -1."""


@dataclass(frozen=True)
class Sample:
    """A conversation in transformers' chat format, a question and an answer per turn."""

    messages: tuple[Mapping[str, Any], ...]
    turns: tuple[Turn, ...]


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
            return _macro(scene, image, questions[:MACRO_TURNS])
        if kind == "grounding":
            return _sample([image], [0], [self._round_one(scene, entry) for entry in questions[:GROUNDING_TURNS]])
        return self._dualfocus(scene, image, questions, rng)

    def _round_one(self, scene: Scene, entry: SceneQuestion) -> Turn:
        prompt = grounding_prompt(as_question(entry), self.wording)
        boxes = (scene.items[index].box for index in entry.referents)
        evidence = tuple((0, region_box(scene, box)) for box in boxes)
        return Turn(prompt, _written(scene, entry.region), evidence, grounding=True)

    def _dualfocus(
        self, scene: Scene, image: Image.Image, questions: list[SceneQuestion], rng: random.Random
    ) -> Sample:
        """Round one grounds the first question; round two asks it and others about the same objects."""
        asked = questions[0]
        first = self._round_one(scene, asked)
        box = _blurred(region_box(scene, asked.region), rng)
        if rng.random() < WRONG_BOX_SHARE:
            region = rng.choice(questions).region
            box = region_box(scene, region)
            first = Turn(first.prompt, _written(scene, region), trained=False, grounding=True)
        crop = crop_of(box, image.size, margin=self.margin)
        if crop is None:
            raise ValueError(f"{scene.image_id}: box {box} leaves no crop")
        related = [entry for entry in questions[1:] if entry.region == asked.region]
        turns = [first]
        for entry in [asked, *related[: MICRO_TURNS - 1]]:
            prompt = scoring_prompt if rng.random() < SCORING_SHARE else micro_prompt
            evidence = tuple(_seen(scene, crop, pixels) for pixels in entry.evidence)
            asking = prompt(as_question(entry), self.wording)
            turns.append(Turn(asking, entry.answer, evidence, aspect=_aspect(entry)))
        zoomed = crop_picture(Picture(image), crop).pixels
        return _sample([image, zoomed], [0, 1], turns)


def _macro(scene: Scene, image: Image.Image, questions: Sequence[SceneQuestion]) -> Sample:
    turns = [
        Turn(
            as_question(entry).prompt,
            entry.answer,
            evidence=tuple((0, region_box(scene, box)) for box in entry.evidence),
            aspect=_aspect(entry),
        )
        for entry in questions
    ]
    return _sample([image], [0], turns)


def _seen(scene: Scene, crop: Crop, pixels: PixelBox) -> tuple[int, Box]:
    """Where ``pixels`` of the scene are best seen: in the crop if their middle lies there, else in the whole image."""
    x1, y1, x2, y2 = pixels
    inside = crop.left <= (x1 + x2) / 2 < crop.right and crop.top <= (y1 + y2) / 2 < crop.bottom
    if not inside:
        return 0, region_box(scene, pixels)
    return 1, within((crop.left, crop.top, crop.right, crop.bottom), pixels).clipped()


def _aspect(entry: SceneQuestion) -> int:
    return ASPECTS.index(PATCH_LABELS[entry.kind]) if entry.kind in PATCH_LABELS else -1


def as_question(entry: SceneQuestion) -> Question:
    """The question as the harness poses it: the task's prompt with LLaVA's format hint."""
    return Question(key="", prompt=f"{entry.question}\n{FORMAT_HINT}", stem=entry.question, images=())


def region_box(scene: Scene, region: PixelBox) -> Box:
    """``region`` as fractions of the image."""
    return within(scene.frame, region)


def _written(scene: Scene, region: PixelBox) -> str:
    return format_box(region_box(scene, region), "unit", image_size=(scene.width, scene.height))


def _blurred(box: Box, rng: random.Random) -> Box:
    """What the model will really look at: its own box, off by a few hundredths."""
    return Box(*(value + rng.gauss(0, 0.015) for value in (box.x1, box.y1, box.x2, box.y2))).clipped()


def _sample(images: Sequence[Image.Image], rounds: Sequence[int], turns: Sequence[Turn]) -> Sample:
    """Chat messages of ``turns`` with image k at the head of turn ``rounds[k]``."""
    messages: list[Mapping[str, Any]] = []
    for number, turn in enumerate(turns):
        pictures = [
            {"type": "image", "image": image} for image, first in zip(images, rounds, strict=True) if first == number
        ]
        messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": turn.prompt}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return Sample(tuple(messages), tuple(turns))
