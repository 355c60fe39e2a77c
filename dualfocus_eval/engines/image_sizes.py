"""How many tokens the images of a prompt can take."""

from __future__ import annotations

from typing import Any

from PIL import Image

from dualfocus_eval.engines.image_inputs import image_inputs

__all__ = ["largest_image_tokens"]

_SIZES = ((2048, 2048), (1024, 3072), (3072, 1024))
"""Large photographs in different shapes: which takes most tokens depends on how a processor cuts it into tiles."""


def largest_image_tokens(processor: Any) -> int | None:
    """The most tokens that ``processor`` makes of a large photograph; None where it does not tell."""
    try:
        return max(len(image_inputs(processor, Image.new("RGB", size)).ids) for size in _SIZES)
    except (KeyError, AttributeError):
        return None
