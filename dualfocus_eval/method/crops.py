"""From a box to the pixels of the sub-region: square, enlarge, clip, cut."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import Box, Size

__all__ = ["MIN_CROP_SIDE", "Crop", "CropRule", "crop_of", "crop_picture", "shifted"]

CropRule = Literal["full", "released"]

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
    are never seen; ``full`` clips to [0, W] x [0, H] and rounds outwards. None where fewer than `MIN_CROP_SIDE` pixels
    are left in width or height.
    """
    width, height = image_size
    last_x, last_y = (width, height) if rule == "full" else (width - 1, height - 1)
    left, right = _squared(box.x1 * width, box.x2 * width, (box.y2 - box.y1) * height)
    top, bottom = _squared(box.y1 * height, box.y2 * height, (box.x2 - box.x1) * width)
    left, right = _enlarged(left, right, margin, last_x)
    top, bottom = _enlarged(top, bottom, margin, last_y)
    if rule == "full":
        crop = Crop(_floor(left), _floor(top), _ceil(right), _ceil(bottom))
    else:
        crop = Crop(int(left), int(top), int(right), int(bottom))
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


def _squared(start: float, end: float, other_side: float) -> tuple[float, float]:
    """One axis of the square whose side is the longer one, about the same centre."""
    centre, half = (start + end) / 2, max(end - start, other_side) / 2
    return centre - half, centre + half


def _enlarged(start: float, end: float, margin: float, last: int) -> tuple[float, float]:
    start, end = (min(max(value, 0.0), last) for value in (start, end))
    return max(start - margin, 0.0), min(end + margin, last)


def _floor(value: float) -> int:
    # Rounded first: 0.57 * 100 is 56.99999999999999.
    return math.floor(round(value, 6))


def _ceil(value: float) -> int:
    return math.ceil(round(value, 6))
