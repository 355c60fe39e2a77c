"""The picture of one answered question: panels side by side, the first with the box and the sub-region drawn in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from PIL import Image

from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.report.style import INK

__all__ = ["BOX", "Caption", "Panel", "answer_figure", "png_bytes"]

BOX = "#d6336c"
"""The colour of the box and of what is said of it."""
_MUTED, _FRAME = "#6a737d", "#d0d7de"
_LARGE_TITLE, _LONGEST_TITLE, _LONGEST_FOOTER = 56, 76, 150
"""Characters that fit the figure's width."""


@dataclass(frozen=True)
class Caption:
    """What stands below a panel: a label, its value in large letters, and a remark."""

    label: str
    value: str
    remark: str = ""
    color: str = INK
    size: int = 18
    """Of the value, in points."""


@dataclass(frozen=True)
class Panel:
    """One image, what it is, and what the model made of it."""

    image: Image.Image
    title: str
    caption: Caption


def answer_figure(
    title: str, panels: Sequence[Panel], footer: str = "", *, box: Box | None = None, crop: Crop | None = None
) -> Any:
    """A matplotlib Figure of one to three ``panels``; ``box`` and, dashed, ``crop`` are outlined in the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.4), dpi=110, facecolor="white")
    widths = [min(max(panel.image.width / panel.image.height, 0.5), 3.0) for panel in panels]
    grid = {"left": 0.03, "right": 0.97, "top": 0.82, "bottom": 0.25, "wspace": 0.1, "width_ratios": widths}
    axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw=grid)[0]
    shown = shorten(figure_text(title), _LONGEST_TITLE, placeholder=" ...")
    size = 18 if len(shown) <= _LARGE_TITLE else 14
    figure.text(0.03, 0.94, shown, parse_math=False, fontsize=size, weight="bold", color=INK, va="center")
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(np.asarray(panel.image), interpolation="nearest")
        axis.set(xticks=[], yticks=[], anchor="NW")
        axis.spines[:].set_edgecolor(_FRAME)
        axis.set_title(panel.title, fontsize=10, color=_MUTED, loc="left", parse_math=False)
        _below(axis, panel.caption)
    _outline(axes[0], panels[0].image.size, box, crop)
    figure.text(
        0.97, 0.03, shorten(figure_text(footer), _LONGEST_FOOTER, placeholder=" ..."),
        parse_math=False, fontsize=9.5, color=_MUTED, ha="right", va="center",
    )  # fmt: skip
    return figure


def png_bytes(figure: Any) -> bytes:
    """The figure as a PNG file; the same bytes for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _outline(axis: Any, size: tuple[int, int], box: Box | None, crop: Crop | None) -> None:
    from matplotlib.patches import Rectangle

    width, height = size
    line: dict[str, Any] = {"fill": False, "edgecolor": BOX}
    if box:
        sides = box.width * width, box.height * height
        axis.add_patch(Rectangle((box.x1 * width, box.y1 * height), *sides, linewidth=2.5, **line))
    if crop:
        axis.add_patch(Rectangle((crop.left, crop.top), *crop.size, linewidth=1.2, linestyle=(0, (4, 3)), **line))


def _below(axis: Any, caption: Caption) -> None:
    place = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "baseline",
        "annotation_clip": False,
        "parse_math": False,
    }
    value = {"fontsize": caption.size, "weight": "bold", "color": caption.color}
    axis.annotate(figure_text(caption.label), (0, 0), xytext=(0, -16), fontsize=10, color=_MUTED, **place)
    axis.annotate(figure_text(caption.value), (0, 0), xytext=(0, -38), **value, **place)
    axis.annotate(figure_text(caption.remark), (0, 0), xytext=(0, -57), fontsize=11, color=INK, **place)
