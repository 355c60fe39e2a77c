"""``grounding=middle``: the middle quarter of the image, whatever the question. The model generates nothing for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Engine, GenerateRequest
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, Region
from dualfocus_eval.method.question import Question


@dataclass(frozen=True)
class _Middle:
    name: str = "middle"
    version: int = 1
    responds: bool = False

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region]:
        return [Region(Box(0.25, 0.25, 0.75, 0.75)) for _ in inputs]


MIDDLE = _Middle()
