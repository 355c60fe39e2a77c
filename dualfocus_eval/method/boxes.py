"""Boxes in what a model writes: reading them, writing them, and what their coordinates are relative to.

A `Box` is always a fraction of the raw image. Whatever a model writes passes through its convention (notation and
scale) and its frame (raw image, or the square LLaVA-1.5 pads it to) on the way in and on the way out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dualfocus_eval.common.geometry import Box, Size, from_padded_square, to_padded_square
from dualfocus_eval.common.text import nfkc
from dualfocus_eval.families import box_conventions
from dualfocus_eval.families.conventions import Convention

__all__ = ["FRAMES", "BoxOutcome", "format_box", "parse_box"]


class BoxOutcome(StrEnum):
    """What became of a model's text; all but ``ok`` and ``clipped`` leave no usable box."""

    OK = "ok"
    CLIPPED = "clipped"
    """Stuck out of the image and was cut to it."""
    UNPARSABLE = "unparsable"
    """No four numbers that read as one box."""
    OTHER_CONVENTION = "other_convention"
    """Marked as a box of a convention with the numbers in another order."""
    NOT_FINITE = "not_finite"
    INVERTED = "inverted"
    """x2 < x1 or y2 < y1."""
    DEGENERATE = "degenerate"
    """Thinner than one step of the convention."""
    OUT_OF_RANGE = "out_of_range"
    """Further out than `SLACK`, as with numbers on another scale, or nothing left within the image."""


SLACK = 0.5
"""How far a coordinate may stick out, as a fraction of the frame; further out the numbers mean something else."""


@dataclass(frozen=True)
class ParsedBox:
    """The box in a text, or why there is none."""

    box: Box | None
    outcome: BoxOutcome


@dataclass(frozen=True)
class Frame:
    """What box coordinates are fractions of: how a box of the raw image gets into it and back. Both take image sizes
    in pixels."""

    into: Callable[[Box, Size], Box]
    out_of: Callable[[Box, Size], Box]


_Numbers = tuple[float, float, float, float]

_NUMBER = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)\b)"
_COMMA = r"\s*[,;]\s*"
_GAP = r"(?:\s*[,;]\s*|\s+)"
_PAIR = f"{_NUMBER}{_GAP}{_NUMBER}"
_END = rf"(?!\w|\.\d)(?!{_GAP}{_NUMBER})"
_FLAT = rf"[\[({{<]\s*{_PAIR}{_GAP}{_PAIR}{_END}"
_PAIRS = rf"[\[(]\s*{_PAIR}\s*[\])]\s*(?:[,;]\s*)?[\[(]\s*{_PAIR}{_END}"
_BARE = rf"(?<![\w.,;-])(?<![,;]\s){_COMMA.join([_NUMBER] * 4)}{_END}"
# For text in lower case: in re.IGNORECASE a dotless i is an i too, which `float` does not read.
_BRACKETED = re.compile(f"{_FLAT}|{_PAIRS}")
_UNBRACKETED = re.compile(_BARE)
_PUNCTUATION = str.maketrans("【】〔〕、。\N{MINUS SIGN}\N{EN DASH}", "[][],.--")  # noqa: RUF001


def parse_box(
    text: str,
    convention: str = "unit",
    *,
    image_size: Size,
    encoded_size: Size | None = None,
    frame: str = "image",
) -> ParsedBox:
    """The first box in ``text``, whatever prose is around it; never raises for any text.

    Full-width digits, full-width and Chinese punctuation are understood, and so are four numbers with commas but
    without brackets where no bracketed box is found. ``encoded_size`` is needed by conventions in pixels. Raises
    ValueError for an unknown convention.
    """
    rules = _convention(convention)
    numbers = _first_four(text, rules)
    if isinstance(numbers, BoxOutcome):
        return ParsedBox(None, numbers)
    if not all(map(math.isfinite, numbers)):
        return ParsedBox(None, BoxOutcome.NOT_FINITE)
    x1, y1, x2, y2 = _reordered(numbers, rules)
    if x2 < x1 or y2 < y1:
        return ParsedBox(None, BoxOutcome.INVERTED)
    width, height = _scale(rules, convention, encoded_size)
    framed = Box(x1 / width, y1 / height, x2 / width, y2 / height)
    if min(framed.x1, framed.y1) < -SLACK or max(framed.x2, framed.y2) > 1 + SLACK:
        return ParsedBox(None, BoxOutcome.OUT_OF_RANGE)
    if _thinner(framed, rules.smallest / width, rules.smallest / height):
        return ParsedBox(None, BoxOutcome.DEGENERATE)
    box = FRAMES[frame].out_of(framed, image_size)
    clipped = box.clipped()
    if _thinner(clipped, rules.smallest / width, rules.smallest / height):
        return ParsedBox(None, BoxOutcome.OUT_OF_RANGE)
    return ParsedBox(clipped, BoxOutcome.OK if clipped == box else BoxOutcome.CLIPPED)


def format_box(
    box: Box,
    convention: str = "unit",
    *,
    image_size: Size,
    encoded_size: Size | None = None,
    frame: str = "image",
) -> str:
    """``box`` as the model is to write it, rounded to the convention's decimals. Raises like `parse_box`."""
    rules = _convention(convention)
    framed = FRAMES[frame].into(box, image_size)
    width, height = _scale(rules, convention, encoded_size)
    numbers = (framed.x1 * width, framed.y1 * height, framed.x2 * width, framed.y2 * height)
    return rules.template.format(*(f"{number:.{rules.decimals}f}" for number in _reordered(numbers, rules)))


FRAMES: Mapping[str, Frame] = {
    "image": Frame(into=lambda box, size: box, out_of=lambda box, size: box),
    "padded_square": Frame(into=to_padded_square, out_of=from_padded_square),
}
"""``image``: the raw image; ``padded_square``: the square that LLaVA-1.5 pads it to."""


def _convention(name: str) -> Convention:
    known = box_conventions()
    if name not in known:
        raise ValueError(f"box convention {name!r} is not one of: {', '.join(known)}")
    return known[name]


def _scale(rules: Convention, name: str, encoded_size: Size | None) -> tuple[float, float]:
    if rules.scale is not None:
        return rules.scale, rules.scale
    if encoded_size is None:
        raise ValueError(f"box convention {name!r} is in pixels of the resized image: pass its encoded_size")
    return encoded_size


def _first_four(text: str, rules: Convention) -> _Numbers | BoxOutcome:
    """The first four numbers that read as a box, as written, or why there are none."""
    plain = nfkc(text).translate(_PUNCTUATION)
    if rules.marker and (marker := re.search(rules.marker, plain)):
        plain = plain[marker.end() :]
    elif rules.other_marker and re.search(rules.other_marker, plain):
        return BoxOutcome.OTHER_CONVENTION
    plain = plain.lower()
    match = _BRACKETED.search(plain) or _UNBRACKETED.search(plain)
    if not match:
        return BoxOutcome.UNPARSABLE
    first, second, third, fourth = (float(number) for number in match.groups() if number is not None)
    return first, second, third, fourth


def _reordered(numbers: _Numbers, rules: Convention) -> _Numbers:
    """From x1, y1, x2, y2 to the order in which the convention writes them, or back."""
    first, second, third, fourth = numbers
    return (second, first, fourth, third) if rules.y_first else numbers


def _thinner(box: Box, width: float, height: float) -> bool:
    tolerance = 1 - 1e-9
    return box.width < width * tolerance or box.height < height * tolerance
