"""How families of models write a box."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any

__all__ = [
    "BBOX_2D_1000",
    "GEMMA4_BOX",
    "GLM4V_BOX",
    "INTERNVL_BOX",
    "PUBLISHED",
    "QWEN2_5_VL_BOX",
    "QWEN2_VL_BOX",
    "UNIT_BOX",
    "Convention",
]


@dataclass(frozen=True)
class Convention:
    """How a model writes a box.

    A family of another package may bring one of its own, which ``box_convention=NAME`` then selects for any checkpoint.
    """

    name: str
    template: str
    """For ``str.format`` with four numbers in the convention's order."""
    scale: float | None
    """The number that stands for the whole width or height; None: pixels of the processor's resized image."""
    decimals: int
    smallest: float
    """The thinnest box that counts, in the convention's own numbers."""
    marker: str | None = None
    """The box is looked for behind the first of these (a pattern), if the text has one."""
    _: KW_ONLY
    # Fields from here on came after answers had been stored: `identity` leaves them out where they have their default.
    y_first: bool = False
    """The numbers are y1, x1, y2, x2; otherwise x1, y1, x2, y2."""
    other_marker: str | None = None
    """A text with this pattern and without ``marker`` has its numbers in another order, so no box is read from it."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the key of stored answers holds of it."""
        values = asdict(self)
        unchanged = {field.name for field in fields(self) if field.kw_only and values[field.name] == field.default}
        return {name: value for name, value in values.items() if name not in unchanged}


_BBOX_2D = "bbox_2d"
_BOX_2D = r"(?<!b)box_2d"

UNIT_BOX = Convention("unit", "[{}, {}, {}, {}]", scale=1.0, decimals=2, smallest=1e-3)
"""DualFocus's own LLaVA and LLaVA-NeXT."""
QWEN2_VL_BOX = Convention(
    "qwen2_vl", "({},{}),({},{})", scale=1000.0, decimals=0, smallest=1.0, marker=r"<\|box_start\|>"
)
QWEN2_5_VL_BOX = Convention(
    "qwen2_5_vl", '{{"bbox_2d": [{}, {}, {}, {}]}}', scale=None, decimals=0, smallest=1.0, marker=_BBOX_2D
)
BBOX_2D_1000 = Convention(
    "bbox_2d_1000",
    '{{"bbox_2d": [{}, {}, {}, {}]}}',
    scale=1000.0,
    decimals=0,
    smallest=1.0,
    marker=_BBOX_2D,
    other_marker=_BOX_2D,
)
"""Qwen3-VL and Qwen3.5. The most common one today, so the first to try with a model of an unknown family."""
INTERNVL_BOX = Convention(
    "internvl",
    "<box>[[{}, {}, {}, {}]]</box>",
    scale=1000.0,
    decimals=0,
    smallest=1.0,
    marker="<box>",
    other_marker=_BOX_2D,
)
"""InternVL 3 and 3.5, with the object before it as ``<ref>...</ref>``."""
GLM4V_BOX = Convention(
    "glm4v",
    "<|begin_of_box|>[[{},{},{},{}]]<|end_of_box|>",
    scale=1000.0,
    decimals=0,
    smallest=1.0,
    # These tokens enclose the final answer, whatever it is; lists of several objects in them have the key too.
    marker=rf"<\|begin_of_box\|>(?:[^<]*?{_BBOX_2D})?|{_BBOX_2D}",
    other_marker=_BOX_2D,
)
"""GLM-4.1V, GLM-4.5V and GLM-4.6V."""
GEMMA4_BOX = Convention(
    "gemma4",
    '{{"box_2d": [{}, {}, {}, {}]}}',
    scale=1000.0,
    decimals=0,
    smallest=1.0,
    marker=_BOX_2D,
    y_first=True,
    other_marker=_BBOX_2D,
)
_QWEN_VL_BOX = Convention(
    "qwen_vl", "<box>({},{}),({},{})</box>", scale=1000.0, decimals=0, smallest=1.0, marker=r"<box>"
)

PUBLISHED = (
    UNIT_BOX,
    _QWEN_VL_BOX,
    QWEN2_VL_BOX,
    QWEN2_5_VL_BOX,
    BBOX_2D_1000,
    INTERNVL_BOX,
    GLM4V_BOX,
    GEMMA4_BOX,
)
"""Conventions of published checkpoints; of Qwen-VL's there is no family here."""
