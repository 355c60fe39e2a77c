"""Every model that transformers loads for images and text and that has no family of its own.

Its checkpoints run in `engines.generate`, with their processor and ``generate`` as they are. What only a family can
know is not known of them: whether they were trained to write boxes, and the size to which an image is resized.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dualfocus_eval.families.base import Family
from dualfocus_eval.families.conventions import BBOX_2D_1000

__all__ = ["UNKNOWN", "generic_family"]

UNKNOWN = "unknown"
"""The ``model_type`` of a model behind a server whose checkpoint is not known."""


def generic_family(model_type: str) -> Family:
    """The family of ``model_type``, whatever that is."""
    return Family(
        model_type=model_type,
        box_convention=BBOX_2D_1000,
        encode=_unknown,
        encoded_size=_unknown,
        engine="generate",
        trained_boxes=None,
        no_reuse=f"{model_type} runs in transformers' generate, which computes every conversation whole",
    )


def _unknown(*arguments: Any) -> NoReturn:
    raise TypeError("only transformers' generate knows how a model of the generic family encodes an image")
