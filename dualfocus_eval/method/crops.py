"""From a box to the pixels of the sub-region: square, enlarge, clip, cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualfocus_eval.common.geometry import Box, Crop, Size
from dualfocus_eval.engines.base import Picture

__all__ = ["CROP_RULES", "MIN_CROP_SIDE", "crop_of", "crop_picture"]


@dataclass(frozen=True)
class CropRule:
    """The arithmetic from a box to whole pixels."""

    version: int
    """Raised when a change of this package can change the rule's crops, so that answers stored before it are not
    reused."""
    precision: type[np.floating[Any]]
    """Of everything after the multiplication with the image's size, which is done in float64."""
    reaches_end: bool
    """Clipped to [0, W] x [0, H], instead of [0, W-1] x [0, H-1], with which the last row and column are never seen."""
    outwards: bool
    """Rounded outwards instead of truncated."""


CROP_RULES: dict[str, CropRule] = {
    "full": CropRule(version=1, precision=np.float64, reaches_end=True, outwards=True),
    "released": CropRule(version=2, precision=np.float32, reaches_end=False, outwards=False),
}
"""``released``: bit for bit what the released code computes; version 2: in its precision. ``full``: the same without
its losses."""

MIN_CROP_SIDE = 2
"""Pixels. A thinner crop, as of a 1x1 image, shows nothing, and processors reject it."""


def crop_of(box: Box, image_size: Size, *, rule: str = "full", margin: float = 25.0) -> Crop | None:
    """The sub-region of ``box``: made square about its centre, clipped, enlarged by ``margin`` pixels, clipped again.

    ``rule`` is a name in `CROP_RULES`. None where fewer than `MIN_CROP_SIDE` pixels are left in width or height.
    """
    arithmetic = CROP_RULES[rule]
    sides = np.array(image_size)
    last = (sides if arithmetic.reaches_end else sides - 1).astype(arithmetic.precision)
    low, high = (np.array([[box.x1, box.y1], [box.x2, box.y2]]) * sides).astype(arithmetic.precision)
    centre, half = (low + high) / 2, (high - low).max() / 2
    low = _clipped(_clipped(centre - half, last) - arithmetic.precision(margin), last)
    high = _clipped(_clipped(centre + half, last) + arithmetic.precision(margin), last)
    if arithmetic.outwards:
        crop = Crop(*map(_floor, low.tolist()), *map(_ceil, high.tolist()))
    else:
        crop = Crop(*map(int, low), *map(int, high))
    return crop if min(crop.size) >= MIN_CROP_SIDE else None


def crop_picture(picture: Picture, crop: Crop) -> Picture:
    """The crop's pixels, at the original's resolution; zooming to the encoder's input is the processor's part."""
    return Picture(picture.pixels.crop((crop.left, crop.top, crop.right, crop.bottom)))


def _clipped(place: Any, last: Any) -> Any:
    """To [0, last]; faster than ``np.clip`` for two numbers."""
    return np.minimum(np.maximum(place, 0), last)


def _floor(value: float) -> int:
    # Rounded first: 0.57 * 100 is 56.99999999999999.
    return math.floor(round(value, 6))


def _ceil(value: float) -> int:
    return math.ceil(round(value, 6))
