"""Controls: regions that nobody has looked for, or that are known. They tell what a grounding method is worth.

- ``center``, ``random``: a box as large as the one that the model names, in the middle or anywhere. The gain that is
  left is not the place's doing.
- ``shifted``: the box that the model names, moved by ``jitter`` pixels along both axes (table 5). It tells how much
  precision matters.
- ``whole``: the whole image once more. The gain that is left is not zooming's doing.
- ``truth``: the box of the data set, whose column a task declares; the best that choosing a region can do.

They change nothing but the region: the second pass continues the conversation in which the model named its own box,
with ``truth`` the one in which it is said to have named the data set's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Engine, GenerateRequest
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.grounding.text_box import TEXT_BOX
from dualfocus_eval.method.grounding.told import told_region
from dualfocus_eval.method.question import Question

__all__ = ["CENTER", "RANDOM", "SHIFTED", "TRUTH", "WHOLE"]


@dataclass(frozen=True)
class _Moved:
    """The box that the model names, elsewhere."""

    name: str
    move: Callable[[Box, Question, GroundingSettings], Box]
    """From the box that the model names to the region."""
    version: int = 1
    responds: bool = True

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return TEXT_BOX.requests(question, settings)

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        found = TEXT_BOX.regions(inputs, engine, settings)
        return [
            replace(region, box=self.move(region.box, item.question, settings))
            if isinstance(region, Region)
            else region
            for item, region in zip(inputs, found, strict=True)
        ]


def _to_center(box: Box, question: Question, settings: GroundingSettings) -> Box:
    return _begun_at(box, (1 - box.width) / 2, (1 - box.height) / 2)


def _anywhere(box: Box, question: Question, settings: GroundingSettings) -> Box:
    draw = random.Random(f"random region of {question.key}")
    return _begun_at(box, draw.uniform(0, 1 - box.width), draw.uniform(0, 1 - box.height))


def _aside(box: Box, question: Question, settings: GroundingSettings) -> Box:
    """The paper says only that boxes are permuted by so many pixels; a shift keeps the size and never inverts a box.

    It stops at the border of the image.
    """
    (picture,) = question.images
    width, height = picture.pixels.size
    draw = random.Random(f"{settings.jitter_seed}/{question.key}")
    dx = draw.choice((-1, 1)) * settings.jitter / width
    dy = draw.choice((-1, 1)) * settings.jitter / height
    return _begun_at(box, min(max(box.x1 + dx, 0), 1 - box.width), min(max(box.y1 + dy, 0), 1 - box.height))


def _whole(box: Box, question: Question, settings: GroundingSettings) -> Box:
    return Box(0.0, 0.0, 1.0, 1.0)


def _begun_at(box: Box, x: float, y: float) -> Box:
    return Box(x, y, x + box.width, y + box.height).clipped()


@dataclass(frozen=True)
class _Truth:
    name: str = "truth"
    version: int = 1
    responds: bool = False

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        return [_known(item.question, engine, settings) for item in inputs]


def _known(question: Question, engine: Engine, settings: GroundingSettings) -> Region | NoRegion:
    return NoRegion("no_truth") if question.truth is None else told_region(question, question.truth, engine, settings)


CENTER = _Moved("center", _to_center)
RANDOM = _Moved("random", _anywhere)
SHIFTED = _Moved("shifted", _aside)
WHOLE = _Moved("whole", _whole)
TRUTH = _Truth()
