"""How the figures look: one palette, one size, no display needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["COLORS", "GREY", "PLAIN_TEXT", "panels"]

INK, GREY = "#1b1f24", "#8b949e"
COLORS = {"macro": "#5b7aa6", "micro": "#d08c3f", "selected": "#1a7f5a", "oracle": "#8b949e"}
"""The colours of the choices; told apart in print and by colour-blind readers by their lightness too."""

PLAIN_TEXT = {"text.parse_math": False}
"""Settings of matplotlib under which ``$`` in a name is a dollar sign and begins no formula."""


def panels(count: int, *, columns: int = 3, width: float = 3.6, height: float = 2.9) -> tuple[Any, Sequence[Any]]:
    """A figure with ``count`` bare axes in rows of ``columns``."""
    from matplotlib.figure import Figure

    columns = max(1, min(count, columns))
    rows = -(-count // columns)
    figure = Figure(
        figsize=(max(width * columns, 5.0), height * rows), dpi=110, facecolor="white", layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        bare(axis)
    return figure, axes[:count]


def bare(axis: Any) -> None:
    """Only the left and lower border, in grey; small labels."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)
    axis.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    axis.title.set_size(9)
    axis.xaxis.label.set_size(8)
    axis.yaxis.label.set_size(8)
