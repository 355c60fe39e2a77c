"""Where a picture's tokens lie in the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dualfocus_eval.common.geometry import Box, Size

__all__ = ["WHOLE", "ImageGrid"]

WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ImageGrid:
    """Those of a picture's image tokens that show the image cell by cell, row by row from the top left.

    Of a picture that is cut into tiles they are its thumbnail's, in which the whole image is seen at once.
    """

    rows: int
    columns: int
    seen: Size
    """(width, height) in pixels at which the vision encoder sees what the grid covers."""
    covers: Box = WHOLE
    """What the grid covers, as fractions of the image: less than the image where the processor cuts its borders off,
    and beyond 0 to 1 where it pads the image."""
    first: int = 0
    """How many of the picture's image tokens come before those of the grid."""

    @classmethod
    def square(cls, tokens: int, seen: Size, first: int = 0) -> ImageGrid:
        """One that covers the whole image with ``tokens`` cells in as many rows as columns."""
        side = math.isqrt(tokens)
        return cls(side, side, seen, first=first)

    def part(self, row: int, column: int, rows: int = 1, columns: int = 1) -> Box:
        """What ``rows`` by ``columns`` cells cover, the first of them at ``row`` and ``column``."""
        width = self.covers.width / self.columns
        height = self.covers.height / self.rows
        x, y = self.covers.x1 + column * width, self.covers.y1 + row * height
        return Box(x, y, x + columns * width, y + rows * height)
