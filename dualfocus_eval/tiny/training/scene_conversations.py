"""Training conversations over scenes: plain, multiple-choice and existence questions, grounding, and the two rounds of
format (1), section 3.2."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.harness.task_functions import lettered_prompt
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.crops import crop_of, crop_picture
from dualfocus_eval.method.prompts import WORD_HINT, grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.tiny.scenes.layout import GROUP_SIDE, PixelBox, Scene, compose, within
from dualfocus_eval.tiny.scenes.multiple_choice import (
    CHOICE_KINDS,
    HINTS,
    LETTERS,
    SceneChoice,
    choices_of,
    with_answers,
)
from dualfocus_eval.tiny.scenes.questions import (
    ANSWERS,
    SceneQuestion,
    ask,
    balanced,
    existence,
    some_absent,
)
from dualfocus_eval.tiny.scenes.render import paint

__all__ = ["ASPECTS", "Evidence", "SceneConversations", "SceneSample", "as_question", "existence_questions"]

TOKENS = "Reference OCR token:"
WRONG_BOX_SHARE = 0.1
"""Share of two-round samples, other than of existence, whose box is another question's, so that a bad crop costs
confidence in the answer."""
GROUNDED_SHARE = 0.25
"""Share of existence samples with Q1 and its box only; the others have both rounds."""
MISSED_SHARE = 0.3
"""Share of two-round existence samples about a present object whose box is the whole image or any object's, as if the
model had missed it."""
SCORING_SHARE = 0.25
"""Share of second rounds under the scoring prompt instead of Q2."""
HINT_SHARE = 0.5
"""Share of multiple-choice questions in MMBench's order: what they are introduced with, then the question."""
TOKENS_SHARE = 0.3
"""Share of questions about writing whose prompt lists what is written in the image, as TextVQA's does."""
MACRO_TURNS, GROUNDING_TURNS, MICRO_TURNS = 6, 5, 6
_ROUNDS = ("macro", "dualfocus")
"""The kinds that multiple choice is posed in, in equal parts: those of them that the mix has too, or else both."""
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
class SceneTurn:
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
class Posed:
    """A question of a scene as it is put to the model."""

    entry: SceneQuestion
    question: Question


@dataclass(frozen=True)
class SceneSample:
    """A conversation in transformers' chat format, a question and an answer per turn."""

    messages: tuple[Mapping[str, Any], ...]
    turns: tuple[SceneTurn, ...]


class SceneConversations(Sequence[SceneSample]):
    """One sample per scene; its kind is drawn by ``mix``. Deterministic in (seed, index)."""

    def __init__(
        self, seed: int, start: int, samples: int, mix: Mapping[str, float], *, prompt_set: str, margin: float
    ) -> None:
        self.seed, self.start, self.samples = seed, start, samples
        self.kinds, self.weights = tuple(mix), tuple(mix.values())
        self.rounds = tuple(kind for kind in _ROUNDS if mix.get(kind, 0) > 0) or _ROUNDS
        self.prompt_set, self.margin = prompt_set, margin

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        rng = random.Random(f"conversations/{self.seed}/{self.start + index}")
        scene = compose(self.seed, self.start + index)
        image = paint(scene)
        kind = rng.choices(self.kinds, self.weights)[0]
        if kind == "existence":
            return self._existence(scene, image, rng)
        if kind == "choice":
            posed = [as_choice(choice, rng) for choice in _choices(scene, rng)]
            kind = rng.choice(self.rounds)
        else:
            posed = [_as_it_is(scene, entry, rng) for entry in balanced(ask(scene, rng), rng)]
        if kind == "macro":
            return _sample([image], [0], [_one_round(scene, asked) for asked in posed[:MACRO_TURNS]])
        if kind == "grounding":
            return _sample([image], [0], [self._grounding(scene, asked) for asked in posed[:GROUNDING_TURNS]])
        return self._dualfocus(scene, image, posed, rng)

    def _grounding(self, scene: Scene, asked: Posed) -> SceneTurn:
        prompt = grounding_prompt(asked.question, self.prompt_set)
        boxes = (scene.items[index].box for index in asked.entry.referents)
        evidence = tuple((0, region_box(scene, box)) for box in boxes)
        return SceneTurn(prompt, _written(scene, asked.entry.region), evidence, grounding=True)

    def _dualfocus(self, scene: Scene, image: Image.Image, posed: Sequence[Posed], rng: random.Random) -> SceneSample:
        """Round one grounds the first question; round two asks it and others about the same objects."""
        region = posed[0].entry.region
        first = self._grounding(scene, posed[0])
        box = _blurred(region_box(scene, region), rng)
        if rng.random() < WRONG_BOX_SHARE:
            other = rng.choice(posed).entry.region
            box = region_box(scene, other)
            first = _untrained_box(scene, first, other)
        asked = [posed[0], *(other for other in posed[1:] if other.entry.region == region)]
        return self._two_rounds(scene, image, first, box, asked, rng)

    def _existence(self, scene: Scene, image: Image.Image, rng: random.Random) -> SceneSample:
        """Existence questions only. A box is a training target only if the object is present: the model should not
        learn to answer Q1 with the whole image. Questions about present and absent objects follow every kind of box."""
        posed = [_as_it_is(scene, entry, rng) for entry in existence_questions(scene, rng)]
        if rng.random() < GROUNDED_SHARE:
            there = [asked for asked in posed if asked.entry.referents]
            return _sample([image], [0], [self._grounding(scene, asked) for asked in there[:GROUNDING_TURNS]])
        first, region = self._grounding(scene, posed[0]), posed[0].entry.region
        if not posed[0].entry.referents or rng.random() < MISSED_SHARE:
            region = rng.choice((scene.frame, rng.choice(scene.items).box))
            first = _untrained_box(scene, first, region)
        return self._two_rounds(scene, image, first, _blurred(region_box(scene, region), rng), posed, rng)

    def _two_rounds(
        self,
        scene: Scene,
        image: Image.Image,
        first: SceneTurn,
        box: Box,
        asked: Sequence[Posed],
        rng: random.Random,
    ) -> SceneSample:
        """``first`` in round one, ``asked`` in round two, which sees the crop of ``box``."""
        crop = crop_of(box, image.size, margin=self.margin)
        if crop is None:
            raise ValueError(f"{scene.image_id}: box {box} leaves no crop")
        turns = [first]
        for posed in asked[:MICRO_TURNS]:
            evidence = tuple(_seen(scene, crop, pixels) for pixels in posed.entry.evidence)
            prompt = scoring_prompt if rng.random() < SCORING_SHARE else micro_prompt
            asking = prompt(posed.question, self.prompt_set)
            turns.append(SceneTurn(asking, posed.entry.answer, evidence, aspect=_aspect(posed.entry)))
        zoomed = crop_picture(Picture(image), crop).pixels
        return _sample([image, zoomed], [0, 1], turns)


def _untrained_box(scene: Scene, turn: SceneTurn, region: PixelBox) -> SceneTurn:
    """``turn`` with the box of ``region`` as its answer, which is context and no training target."""
    return SceneTurn(turn.prompt, _written(scene, region), trained=False, grounding=True)


def _one_round(scene: Scene, asked: Posed) -> SceneTurn:
    evidence = tuple((0, region_box(scene, box)) for box in asked.entry.evidence)
    return SceneTurn(asked.question.prompt, asked.entry.answer, evidence, aspect=_aspect(asked.entry))


def _as_it_is(scene: Scene, entry: SceneQuestion, rng: random.Random) -> Posed:
    question = as_question(entry)
    if entry.kind == "text" and rng.random() < TOKENS_SHARE:
        written = [item.mark.shape for item in scene.items if item.mark is not None and item.mark.kind == "label"]
        rng.shuffle(written)
        question = replace(question, prompt=f"{entry.question}\n{TOKENS} {', '.join(written)}\n{WORD_HINT}")
    return Posed(entry, question)


def existence_questions(scene: Scene, rng: random.Random) -> list[SceneQuestion]:
    """In pairs: one about a present object and one about an absent one, in random order within the pair. A group's
    objects come first: they are small and easily missed."""
    sides = {item.name: item.box[2] - item.box[0] for item in scene.items}
    present = sorted(sides, key=lambda name: (sides[name] > GROUP_SIDE[1], rng.random()))
    absent = some_absent(scene, rng)
    rng.shuffle(absent)
    pairs = (
        [existence(scene, there, True), existence(scene, missing, False)]
        for there, missing in zip(present, absent, strict=False)
    )
    return [entry for pair in pairs for entry in rng.sample(pair, len(pair))]


def _choices(scene: Scene, rng: random.Random) -> list[SceneChoice]:
    """Every multiple-choice question of the scene, all kinds as likely to come early."""
    choices = [with_answers(entry, ANSWERS[entry.kind]) for entry in ask(scene, rng)]
    choices += [choice for kind in CHOICE_KINDS for choice in choices_of(scene, kind, rng)]
    by_entry = {choice.asked: choice for choice in choices}
    return [by_entry[entry] for entry in balanced(list(by_entry), rng)]


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
    return Question(key="", prompt=f"{entry.question}\n{WORD_HINT}", stem=entry.question, images=())


def as_choice(choice: SceneChoice, rng: random.Random) -> Posed:
    """The question with two to four options in random order.

    It asks for a letter, as the benchmarks do, and is answered by the option's text, which their scoring takes as well:
    a letter would have to be found by looking the answer up among the options, a skill beside what this model is for.
    """
    entry = choice.asked
    options = [entry.answer, *rng.sample(choice.wrong, min(len(choice.wrong), rng.randint(1, len(LETTERS) - 1)))]
    rng.shuffle(options)
    hint = HINTS.get(entry.kind, "") if rng.random() < HINT_SHARE else None
    asked = lettered_prompt(entry.question, dict(zip(LETTERS, options, strict=False)))
    prompt = "\n".join([*filter(None, [hint]), asked])
    question = replace(as_question(entry), prompt=prompt, options=tuple(options), hint=hint)
    return Posed(entry, question)


def region_box(scene: Scene, region: PixelBox) -> Box:
    """``region`` as fractions of the image."""
    return within(scene.frame, region)


def _written(scene: Scene, region: PixelBox) -> str:
    return format_box(region_box(scene, region), "unit", image_size=(scene.width, scene.height))


def _blurred(box: Box, rng: random.Random) -> Box:
    """What the model will really look at: its own box, off by a few hundredths."""
    return Box(*(value + rng.gauss(0, 0.015) for value in box.corners)).clipped()


def _sample(images: Sequence[Image.Image], rounds: Sequence[int], turns: Sequence[SceneTurn]) -> SceneSample:
    """Chat messages of ``turns`` with image k at the head of turn ``rounds[k]``."""
    messages: list[Mapping[str, Any]] = []
    for number, turn in enumerate(turns):
        pictures = [
            {"type": "image", "image": image} for image, first in zip(images, rounds, strict=True) if first == number
        ]
        messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": turn.prompt}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return SceneSample(tuple(messages), tuple(turns))
