"""``detector``: a zero-shot object detector looks for what the question names (appendix E, table 11).

The phrases come from the question by rule (`phrases`). All boxes that the detector finds are joined in one, as the
paper's sub-region holds all objects that a question is about; squaring and enlarging are the crop rule's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box, union
from dualfocus_eval.engines.base import Engine, Failure, GenerateRequest
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.calls import attempt
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.grounding.phrases import phrases_of
from dualfocus_eval.method.grounding.told import told_region
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Fallback

if TYPE_CHECKING:
    from dualfocus_eval.engines.detector import Detector

__all__ = ["DETECTOR"]


@dataclass(frozen=True)
class _Detector:
    name: str = "detector"
    version: int = 1
    responds: bool = False

    def problem(self, engine: RunEngine, settings: GroundingSettings) -> str | None:
        """Loads the detector beside the model."""
        try:
            _loaded(settings).move(engine.info.device)
        except UserError as error:
            return str(error)
        return None

    def digest(self, settings: GroundingSettings) -> str:
        return _loaded(settings).digest

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        begin = time.perf_counter()
        detector = _loaded(settings)
        found = [attempt(partial(_region, item.question, detector, engine, settings)) for item in inputs]
        seconds = engine.counters.seconds
        seconds["detector"] = seconds.get("detector", 0.0) + time.perf_counter() - begin
        return [NoRegion(Fallback.GROUNDING_FAILED, cause=one) if isinstance(one, Failure) else one for one in found]


DETECTOR = _Detector()


def _loaded(settings: GroundingSettings) -> Detector:
    from dualfocus_eval.engines.detector import load_detector

    return load_detector(settings.detector or "")


def _region(question: Question, detector: Detector, engine: Engine, settings: GroundingSettings) -> Region | NoRegion:
    phrases = phrases_of(question.stem)
    if not phrases:
        return NoRegion("no_phrase")
    (picture,) = question.images
    found = detector.boxes(picture.pixels, phrases)
    if not found:
        return NoRegion("nothing_detected")
    joined = union(box.corners for box in found)
    return told_region(question, Box(*joined), engine, settings)
