"""Grounding responses read under every box convention and frame that is known, and which of them fits best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dualfocus_eval.analysis.intervals import mean, mean_difference
from dualfocus_eval.common.geometry import Box, Size, overlap
from dualfocus_eval.families import box_conventions
from dualfocus_eval.method.boxes import FRAMES, parse_box

__all__ = ["MIN_RESPONSES", "THINNEST", "BoxCheck", "Reading", "Response", "check_boxes"]

MIN_RESPONSES = 8
"""Fewer responses tell no two readings apart."""
MARGIN = 0.05
"""A reading is clearly better than another when the 95% interval of its advantage in IoU (or, where no object is known,
in the share of usable boxes), question by question, lies above this."""
THINNEST = 0.01
"""Of the image's width or height: a thinner box shows no object; numbers on another scale often come out so."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Response:
    """What the model wrote when it was asked for a box."""

    text: str
    image_size: Size
    encoded_size: Size | None
    """None where the engine cannot tell it."""
    truth: Box | None = None
    """The box that it should have written."""
    cut: bool = False
    """Whether it ended at ``max_box_tokens``."""


@dataclass(frozen=True)
class Reading:
    """What one convention and frame make of the responses."""

    convention: str
    frame: str
    parsed: float
    """Share of responses in which a box is found."""
    usable: float
    """Share of responses whose box is no thinner than `THINNEST`."""
    iou: float | None = None
    """Mean intersection over union with the known objects, 0 without a box; None where no object is known."""
    iou_low: float | None = None
    """The ends of its 95% interval; None where all responses have the same IoU."""
    iou_high: float | None = None

    @property
    def settings(self) -> dict[str, str]:
        """It as model arguments."""
        return {"box_convention": self.convention, "box_frame": self.frame}

    @property
    def fit(self) -> float:
        """What readings are compared by: the mean IoU, or the share of usable boxes where no object is known."""
        return self.usable if self.iou is None else self.iou


@dataclass(frozen=True)
class BoxCheck:
    """All readings, the best first, and what they say of the configured one."""

    responses: tuple[Response, ...]
    cut: int
    """Responses without a box under the configured reading that ended at ``max_box_tokens``."""
    configured: Reading
    readings: tuple[Reading, ...]
    better: Reading | None
    """The best reading, where it is clearly better than the configured one."""
    alike: tuple[Reading, ...] = ()
    """Further readings that are not told apart from ``better``."""
    unknown: tuple[str, ...] = ()
    """Conventions that need the encoded size, which the engine cannot tell."""

    @property
    def perhaps_better(self) -> Reading | None:
        """The best reading, where it fits better than the configured one but the responses are too few to be sure."""
        best = self.readings[0]
        return best if self.better is None and best.fit - self.configured.fit > MARGIN else None


@dataclass(frozen=True, eq=False)
class _Scored:
    reading: Reading
    boxes: tuple[Box | None, ...]
    """Of the responses; None where there is none."""
    values: NDArray[np.float64]
    """(responses,): IoU; without known objects 1 for a usable box and 0 for none."""
    rank: tuple[float, int, bool]
    """By which readings are sorted, the best first: mean value, how often its notation occurs, whether it is the
    family's own convention."""


def check_boxes(responses: Sequence[Response], convention: str, frame: str, family_convention: str = "") -> BoxCheck:
    """Read ``responses`` (at least one) in every way; ``convention`` and ``frame`` are the configured ones.

    Where two readings fit equally well, the one whose notation the model writes comes first, then
    ``family_convention``.
    """
    sized = all(response.encoded_size for response in responses)
    known = [name for name, one in box_conventions().items() if sized or one.scale is not None]
    scored = [_scored(responses, name, place, family_convention) for name in known for place in FRAMES]
    scored.sort(key=lambda one: one.rank)
    configured = next(one for one in scored if (one.reading.convention, one.reading.frame) == (convention, frame))
    best = scored[0]
    better = best if _clearly_better(best, configured) else None
    unread = [response for response, box in zip(responses, configured.boxes, strict=True) if box is None]
    return BoxCheck(
        responses=tuple(responses),
        cut=sum(response.cut for response in unread),
        configured=configured.reading,
        readings=tuple(one.reading for one in scored),
        better=better.reading if better else None,
        alike=tuple(one.reading for one in scored[1:] if better and not _clearly_better(best, one)),
        unknown=tuple(name for name in box_conventions() if name not in known),
    )


def _scored(responses: Sequence[Response], convention: str, frame: str, family_convention: str) -> _Scored:
    boxes = tuple(
        parse_box(
            response.text, convention, image_size=response.image_size, encoded_size=response.encoded_size, frame=frame
        ).box
        for response in responses
    )
    values = np.array([box is not None and _is_usable(box) for box in boxes], dtype=float)
    reading = Reading(convention, frame, sum(box is not None for box in boxes) / len(boxes), float(values.mean()))
    truths = [response.truth for response in responses if response.truth]
    if len(truths) == len(boxes):
        values = np.array([overlap(box, truth) if box else 0.0 for box, truth in zip(boxes, truths, strict=True)])
        found = mean(values, range(len(values)))
        low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
        reading = replace(reading, iou=found.value, iou_low=low, iou_high=high)
    written = sum(_is_written(response.text, convention) for response in responses)
    rank = (-round(float(values.mean()), 9), -written, convention != family_convention)
    return _Scored(reading, boxes, values, rank)


def _is_usable(box: Box) -> bool:
    return min(box.width, box.height) >= THINNEST


def _is_written(text: str, convention: str) -> bool:
    """Whether ``text`` has the notation of ``convention``, which others may read as well."""
    return _notation(box_conventions()[convention].template.format(0, 0, 0, 0)) in _notation(text)


def _notation(text: str) -> str:
    return _NUMBER.sub("#", _SPACE.sub("", text))


def _clearly_better(one: _Scored, other: _Scored) -> bool:
    """Whether ``one`` fits the same responses better than ``other`` by more than chance and `MARGIN`."""
    if len(one.values) < MIN_RESPONSES:
        return False
    return mean_difference(other.values, one.values, range(len(one.values))).low > MARGIN
