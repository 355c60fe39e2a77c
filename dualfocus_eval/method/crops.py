"""From a box to the pixels of the sub-region: square, enlarge, clip, cut."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import Box, Size

__all__ = ["CROP_VERSIONS", "MIN_CROP_SIDE", "Crop", "CropRule", "crop_of", "crop_picture", "shifted"]

CropRule = Literal["full", "released"]

CROP_VERSIONS: Mapping[CropRule, int] = {"full": 1, "released": 2}
"""Raised when a change of this package can change a rule's crops, so that answers stored before it are not reused.
``released`` 2: in the precision of the released code."""

MIN_CROP_SIDE = 2
"""Pixels. A thinner crop, as of a 1x1 image, shows nothing, and processors reject it."""


@dataclass(frozen=True)
class Crop:
    """Pixels of the original image: columns left..right and rows top..bottom, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top


def crop_of(box: Box, image_size: Size, *, rule: CropRule = "full", margin: float = 25.0) -> Crop | None:
    """The sub-region of ``box``: made square about its centre, clipped, enlarged by ``margin`` pixels, clipped again.

    ``released`` clips to [0, W-1] x [0, H-1] and truncates, as the released code does, so that the last row and column
    are never seen; its arithmetic is that code's too: pixels in float64, all that follows in float32. ``full`` clips to
    [0, W] x [0, H] and rounds outwards. None where fewer than `MIN_CROP_SIDE` pixels are left in width or height.
    """
    precision = np.float64 if rule == "full" else np.float32
    sides = np.array(image_size)
    last = (sides if rule == "full" else sides - 1).astype(precision)
    low, high = (np.array([[box.x1, box.y1], [box.x2, box.y2]]) * sides).astype(precision)
    centre, half = (low + high) / 2, (high - low).max() / 2
    low = _clipped(_clipped(centre - half, last) - precision(margin), last)
    high = _clipped(_clipped(centre + half, last) + precision(margin), last)
    if rule == "full":
        crop = Crop(*map(_floor, low.tolist()), *map(_ceil, high.tolist()))
    else:
        crop = Crop(*map(int, low), *map(int, high))
    return crop if min(crop.size) >= MIN_CROP_SIDE else None


def crop_picture(picture: Picture, crop: Crop) -> Picture:
    """The crop's pixels, at the original's resolution; zooming to the encoder's input is the processor's part."""
    return Picture(picture.pixels.crop((crop.left, crop.top, crop.right, crop.bottom)))


def shifted(box: Box, image_size: Size, pixels: float, seed: str) -> Box:
    """``box`` moved by ``pixels`` along each axis in a direction drawn from ``seed``, stopped at the border (table 5).

    The paper says only that boxes are permuted by so many pixels; a shift keeps the size and never inverts a box.
    """
    draw = random.Random(seed)
    width, height = image_size
    dx = draw.choice((-1, 1)) * pixels / width
    dy = draw.choice((-1, 1)) * pixels / height
    dx = min(max(dx, -box.x1), 1 - box.x2)
    dy = min(max(dy, -box.y1), 1 - box.y2)
    return Box(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy).clipped()


def _clipped(place: Any, last: Any) -> Any:
    """To [0, last]; faster than ``np.clip`` for two numbers."""
    return np.minimum(np.maximum(place, 0), last)


def _floor(value: float) -> int:
    # Rounded first: 0.57 * 100 is 56.99999999999999.
    return math.floor(round(value, 6))


def _ceil(value: float) -> int:
    return math.ceil(round(value, 6))
