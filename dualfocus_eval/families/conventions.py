"""How families of models write a box."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "QWEN2_5_VL_BOX", "QWEN2_VL_BOX", "UNIT_BOX", "Convention"]


@dataclass(frozen=True)
class Convention:
    """How a model writes a box.

    A family of another package may bring one of its own, which ``box_convention=NAME`` then selects for any checkpoint.
    """

    name: str
    template: str
    """For ``str.format`` with four numbers."""
    scale: float | None
    """The number that stands for the whole width or height; None: pixels of the processor's resized image."""
    decimals: int
    smallest: float
    """The thinnest box that counts, in the convention's own numbers."""
    marker: str | None = None
    """The box is looked for behind the first of these (a pattern), if the text has one."""


UNIT_BOX = Convention("unit", "[{}, {}, {}, {}]", scale=1.0, decimals=2, smallest=1e-3)
"""DualFocus's own LLaVA and LLaVA-NeXT."""
QWEN2_VL_BOX = Convention(
    "qwen2_vl", "({},{}),({},{})", scale=1000.0, decimals=0, smallest=1.0, marker=r"<\|box_start\|>"
)
QWEN2_5_VL_BOX = Convention(
    "qwen2_5_vl", '{{"bbox_2d": [{}, {}, {}, {}]}}', scale=None, decimals=0, smallest=1.0, marker="bbox_2d"
)
_QWEN_VL_BOX = Convention(
    "qwen_vl", "<box>({},{}),({},{})</box>", scale=1000.0, decimals=0, smallest=1.0, marker=r"<box>"
)

PUBLISHED = (UNIT_BOX, _QWEN_VL_BOX, QWEN2_VL_BOX, QWEN2_5_VL_BOX)
"""Conventions of published checkpoints; of Qwen-VL's there is no family here."""
