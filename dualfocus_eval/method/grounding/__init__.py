"""Grounding: how the region is chosen that a question is looked at again in."""

from __future__ import annotations

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.method.grounding.attention import ATTENTION
from dualfocus_eval.method.grounding.base import GroundingMethod
from dualfocus_eval.method.grounding.controls import CENTER, RANDOM, SHIFTED, TRUTH, WHOLE
from dualfocus_eval.method.grounding.detector import DETECTOR
from dualfocus_eval.method.grounding.text_box import TEXT_BOX
from dualfocus_eval.method.grounding.tiles import TILES

__all__ = ["GROUNDING"]

GROUNDING: Registry[GroundingMethod] = Registry(
    "dualfocus_eval.grounding",
    "grounding method",
    (TEXT_BOX, ATTENTION, DETECTOR, TILES, TRUTH, SHIFTED, CENTER, RANDOM, WHOLE),
)
"""Every grounding method by name: this package's own, and those that other packages register."""
