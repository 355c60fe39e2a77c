"""Rectangles in images: boxes as fractions of the image, crops in its pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from dualfocus_eval.common.numbers import Integer, Number

__all__ = ["Box", "Crop", "Size", "from_padded_square", "overlap", "to_padded_square", "union"]

NumberT = TypeVar("NumberT", int, float)
Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Box:
    """A rectangle as fractions of the raw image's width and height, origin at the top left."""

    x1: Number
    y1: Number
    x2: Number
    y2: Number

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2)."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def width(self) -> float:
        """As a fraction of the image's; negative for an inverted box."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Likewise."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Area as a fraction of the image; 0 for an inverted box."""
        return max(0.0, self.width) * max(0.0, self.height)

    def clipped(self) -> Box:
        """The part within the image; zero-sized where there is none."""
        return Box(*(min(max(value, 0.0), 1.0) for value in self.corners))


@dataclass(frozen=True)
class Crop:
    """Pixels of the original image: columns left..right and rows top..bottom, ends excluded."""

    left: Integer
    top: Integer
    right: Integer
    bottom: Integer

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    def within(self, image_size: Size) -> Box:
        """The same part as fractions of the image, whose pictures may be of any size."""
        width, height = image_size
        return Box(self.left / width, self.top / height, self.right / width, self.bottom / height)


def union(boxes: Iterable[tuple[NumberT, NumberT, NumberT, NumberT]]) -> tuple[NumberT, NumberT, NumberT, NumberT]:
    """The smallest of boxes in pixels, (x1, y1, x2, y2), that holds all of ``boxes`` (at least one)."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def overlap(box: Box, other: Box) -> float:
    """Intersection over union of two boxes of one image, 0 to 1."""
    shared = Box(max(box.x1, other.x1), max(box.y1, other.y1), min(box.x2, other.x2), min(box.y2, other.y2)).area
    together = box.area + other.area - shared
    return shared / together if together > 0 else 0.0


def to_padded_square(box: Box, image_size: Size) -> Box:
    """``box`` as fractions of the square that holds the image in its centre (LLaVA-1.5's preprocessing)."""
    (width, height), side, left, top = image_size, *_padding(image_size)
    return Box(
        (box.x1 * width + left) / side,
        (box.y1 * height + top) / side,
        (box.x2 * width + left) / side,
        (box.y2 * height + top) / side,
    )


def from_padded_square(box: Box, image_size: Size) -> Box:
    """The inverse of `to_padded_square`; parts in the padding lie outside the image."""
    (width, height), side, left, top = image_size, *_padding(image_size)
    return Box(
        (box.x1 * side - left) / width,
        (box.y1 * side - top) / height,
        (box.x2 * side - left) / width,
        (box.y2 * side - top) / height,
    )


def _padding(image_size: Size) -> tuple[int, int, int]:
    """(side of the padded square, pixels left of the image, pixels above it)."""
    width, height = image_size
    side = max(width, height)
    return side, (side - width) // 2, (side - height) // 2
