"""Boxes: how many can be read, how large they are, where they lie, and scores by the size of the object."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Measured, Table, percent
from tests.integration.recomputed.intervals import rate_interval

__all__ = ["box_tables"]

CORNERS = ["x1", "y1", "x2", "y2"]
CLASSES = 5


def box_tables(run: Answers) -> dict[str, Table]:
    boxes: list[list[Cell]] = []
    sizes: list[list[Cell]] = []
    for task, part in run.tasks.items():
        asked = part[part["grounding"].notna()]
        if len(asked):
            boxes.append(_box_row(task, asked))
            if not (truth := _truth(asked)).empty:
                sizes += _size_rows(run, task, asked, _areas(truth))
    columns = ["task", "n", "usable %", "outcomes", "area: 5% below", "median", "95% below", "mean IoU", "IoU > 0.5 %"]
    tables = {"boxes": Table(columns, boxes)} if boxes else {}
    if sizes and run.both:
        tables["object_size"] = Table(["task", "object size", "n", *run.headings], sizes)
    return tables


def _box_row(task: str, asked: pd.DataFrame) -> list[Cell]:
    found, images = _boxes(asked), asked["image"]
    outcomes = Counter(asked["grounding"].map(lambda grounding: grounding["outcome"])).most_common()
    areas = _areas(found.dropna())
    spread = [areas.quantile(share) if len(areas) else math.nan for share in (0.05, 0.5, 0.95)]
    row: list[Cell] = [task, len(asked), _share(found["x1"].notna(), images)]
    row += [", ".join(f"{name} {count:,}" for name, count in outcomes), *map(percent, spread)]
    truth = _truth(asked)
    if truth.empty:
        return [*row, Measured(math.nan), percent(math.nan)]
    overlap = _overlap(found, truth)
    return [*row, Measured(overlap.mean(), rate_interval(overlap, images)), _share(overlap > 0.5, images)]


def _boxes(asked: pd.DataFrame) -> pd.DataFrame:
    """The boxes that the model named, as fractions of the image; NaN where none could be read."""
    none = dict.fromkeys(CORNERS, math.nan)
    return pd.DataFrame([grounding["box"] or none for grounding in asked["grounding"]], index=asked.index)


def _truth(asked: pd.DataFrame) -> pd.DataFrame:
    """The documents' boxes, as fractions; no rows where the task has none."""
    if "box" not in asked["doc"].iloc[0]:
        return pd.DataFrame(columns=CORNERS)
    pixels = np.array([np.asarray(doc["box"], dtype=float) for doc in asked["doc"]])
    sizes = np.array([[images[0]["width"], images[0]["height"]] * 2 for images in asked["images"]])
    return pd.DataFrame(pixels / sizes, columns=CORNERS, index=asked.index)


def _areas(boxes: pd.DataFrame) -> pd.Series:
    return (boxes["x2"] - boxes["x1"]).clip(lower=0) * (boxes["y2"] - boxes["y1"]).clip(lower=0)


def _overlap(found: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Intersection over union; 0 without a box."""
    both = pd.DataFrame({
        **{name: np.maximum(found[name], truth[name]) for name in ("x1", "y1")},
        **{name: np.minimum(found[name], truth[name]) for name in ("x2", "y2")},
    })  # fmt: skip
    shared = _areas(both)
    return (shared / (_areas(found) + _areas(truth) - shared)).fillna(0.0)


def _size_rows(run: Answers, task: str, asked: pd.DataFrame, areas: pd.Series) -> list[list[Cell]]:
    """Five classes of object size, as equal as they can be without parting equal sizes."""
    sizes = np.sqrt(areas)
    edges = sorted(set(sizes.quantile(np.linspace(0, 1, CLASSES + 1))))
    classes = pd.cut(sizes, [-math.inf, *edges[1:-1], math.inf], right=False)
    rows: list[list[Cell]] = []
    for members in (classes == interval for interval in classes.cat.categories):
        part, own = asked[members], 100 * sizes[members]
        if len(part):
            shares = [_share(_scores(part, choice), part["image"]) for choice in run.choices]
            rows.append([task, f"{own.min():.0f} to {own.max():.0f}", len(part), *shares])
    return rows


def _scores(part: pd.DataFrame, choice: str) -> pd.Series:
    return part["score_micro"].where(part[f"take {choice}"] == "micro", part["score_macro"])


def _share(values: pd.Series, images: pd.Series) -> Measured:
    return percent(values.mean(), rate_interval(values.astype(float), images))
