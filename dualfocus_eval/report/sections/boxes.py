"""Boxes: how many can be read, how large they are, how well they lie, and scores by the size of the object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, scores_of
from dualfocus_eval.analysis.measures import rate
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.sections.strategies import INTERVALS, STAR
from dualfocus_eval.report.style import COLORS, panels

__all__ = ["box_section", "truth_overlap"]

_CORNERS = ("x1", "y1", "x2", "y2")
SIZE_CLASSES = 5
"""Classes of object size, each with as many questions."""
_PLOTTED: tuple[Choice, ...] = ("macro", "micro", "selected")
_AREA_TICKS = (1e-3, 1e-2, 1e-1, 1.0)


def box_section(run: Run) -> Section:
    """Parsing, areas, overlap with the true boxes where the documents have them, and scores by object size."""
    text = (
        "A question without a usable box gets the macro answer. Areas are percentages of the image, before the "
        "box is made square and enlarged. IoU is with the box of the object in question, if the task has one; an "
        "unusable box counts as 0."
    )
    asked = {task: rows[rows["outcome"].notna()] for task in run.task_names if len(rows := run.of(task))}
    asked = {task: rows for task, rows in asked.items() if len(rows)}
    if not asked:
        return Section("boxes", "Boxes", text)
    header = (
        "task",
        "n",
        "usable %",
        "outcomes",
        "area: 5% below",
        "median",
        "95% below",
        "mean IoU",
        "IoU > 0.5 %",
    )
    table = Table("Boxes", header, (tuple(_box_row(task, rows) for task, rows in asked.items()),), (INTERVALS,))
    tables = {"boxes": table}
    figures = {"box_areas": Drawing("Box areas as shares of the image, on a log scale.", lambda: _draw_areas(asked))}
    known = {task: rows[rows["truth_x1"].notna()] for task, rows in asked.items() if rows["truth_x1"].notna().any()}
    if known and "micro" in run.choices:
        sizes = tuple(tuple(_size_rows(run, task, rows)) for task, rows in known.items())
        heading = ("task", "object size", "n", *run.shown_choices.values())
        size = "Object size: the square root of the object's share of the image, in percent of its side."
        tables["object_size"] = Table("Scores by object size (%)", heading, sizes, (f"{INTERVALS} {STAR}", size))
        figures["object_size"] = Drawing("Score by object size (%); 95% intervals.", lambda: _draw_sizes(known))
    return Section("boxes", "Boxes", text, tables, figures)


def truth_overlap(rows: pd.DataFrame) -> np.ndarray:
    """IoU of each question's box with its document's; (questions,), 0 without a usable box, NaN without a true one."""
    found, truth = _boxes(rows, "box"), _boxes(rows, "truth")
    low, high = np.fmax(found[:, :2], truth[:, :2]), np.fmin(found[:, 2:], truth[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    together = _area(found) + _area(truth) - shared
    overlap = np.divide(shared, together, out=np.zeros(len(rows)), where=together > 0)
    return np.where(np.isnan(truth).any(axis=1), np.nan, np.where(np.isnan(found).any(axis=1), 0.0, overlap))


def object_size(rows: pd.DataFrame) -> np.ndarray:
    """The square root of the true box's share of the image; (questions,), NaN without one."""
    return np.asarray(np.sqrt(_area(_boxes(rows, "truth"))))


def _boxes(rows: pd.DataFrame, prefix: str) -> np.ndarray:
    """(questions, 4) corners as fractions of the image."""
    return np.asarray(rows[[f"{prefix}_{corner}" for corner in _CORNERS]].to_numpy())


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1))


def _box_row(task: str, rows: pd.DataFrame) -> tuple[Cell, ...]:
    usable, clusters = rows["box_x1"].notna(), rows["cluster"]
    outcomes = ", ".join(f"{name} {count:,}" for name, count in rows["outcome"].value_counts().items())
    area = _area(_boxes(rows[usable], "box"))
    spread = np.quantile(area, [0.05, 0.5, 0.95]) if len(area) else [np.nan] * 3
    overlap = truth_overlap(rows)
    mean, hits = rate(overlap, clusters), rate(np.where(np.isnan(overlap), np.nan, overlap > 0.5), clusters)
    return (
        task, len(rows), rate(usable, clusters), outcomes,
        *(Number(100 * float(value), unit="%") for value in spread),
        Number(mean.value / 100, mean.low / 100, mean.high / 100, decimals=2), hits,
    )  # fmt: skip


def _classes(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The questions of each class of object size, small ones first; equal sizes are never parted."""
    size = object_size(rows)
    edges = np.unique(np.quantile(size, np.linspace(0, 1, SIZE_CLASSES + 1)))
    place = np.clip(np.searchsorted(edges, size, side="right"), 1, max(1, len(edges) - 1))
    return [
        (f"{100 * size[place == number].min():.0f} to {100 * size[place == number].max():.0f}", rows[place == number])
        for number in np.unique(place)
    ]


def _size_rows(run: Run, task: str, rows: pd.DataFrame) -> list[tuple[Cell, ...]]:
    return [
        (task, name, len(part), *(rate(scores_of(part, choice), part["cluster"]) for choice in run.shown_choices))
        for name, part in _classes(rows)
    ]


def _draw_areas(asked: dict[str, pd.DataFrame]) -> Any:
    figure, axes = panels(len(asked), height=2.3)
    edges = np.geomspace(1e-3, 1.0, 25)
    for axis, (task, rows) in zip(axes, asked.items(), strict=True):
        area = _area(_boxes(rows[rows["box_x1"].notna()], "box"))
        axis.hist(np.clip(area, edges[0], 1.0), bins=edges, color=COLORS["micro"])
        axis.set_xscale("log")
        # Not matplotlib's own labels, which are formulas: those are off (`style.PLAIN_TEXT`).
        axis.set_xticks(_AREA_TICKS, [f"{100 * tick:g}" for tick in _AREA_TICKS])
        axis.set_xlabel("% of the image", fontsize=8)
        axis.set_title(figure_text(task), fontsize=9)
    return figure


def _draw_sizes(known: dict[str, pd.DataFrame]) -> Any:
    figure, axes = panels(len(known), width=5.0, height=3.2)
    for axis, (task, rows) in zip(axes, known.items(), strict=True):
        classes = _classes(rows)
        for offset, choice in enumerate(_PLOTTED):
            values = [rate(scores_of(part, choice), part["cluster"]) for _, part in classes]
            places = np.arange(len(classes)) + 0.12 * (offset - 1)
            margins = ([v.value - v.low for v in values], [v.high - v.value for v in values])
            line = {"color": COLORS[choice], "label": choice, "markersize": 4, "linewidth": 1.2}
            axis.errorbar(places, [value.value for value in values], yerr=margins, fmt="o-", **line)
        axis.set_xticks(range(len(classes)), [name for name, _ in classes], fontsize=8)
        axis.set_xlabel("object size, % of the image's side", fontsize=8)
        axis.set_ylabel("right, %", fontsize=8)
        axis.set_ylim(0, 105)
        axis.set_title(figure_text(task), fontsize=9)
        axis.legend(fontsize=8, frameon=False)
    return figure
