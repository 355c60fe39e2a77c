"""``attention``: the region is where the model looks when it is about to answer. Nothing is trained or generated.

Relative attention of ViCrop: Zhang, Khayatkhoei, Chhikara and Ilievski, "MLLMs Know Where to Look: Training-free
Perception of Small Visual Details with Multimodal LLMs", ICLR 2025, written from the paper's description. It says:

- The attention from the answer's starting position to the image tokens, averaged over the heads of one layer, divided
  cell by cell by the same for a general instruction, tells what matters for this question.
- Windows have 1, 1.2, ... 2 times the size at which the model sees an image. Each slides over the image in steps of one
  cell to where its sum is largest. Of these the window is taken whose sum differs most from the mean sum of its
  neighbours: too small and too large windows change little when they are moved.

What it leaves open is decided here:

- The question is the macro prompt, whose states the engine has already.
- Neighbours are the windows one cell to the left, right, top and bottom, as far as there are any.
- A window as large as the image zooms into nothing. So where the model sees the image no smaller than it is, but for
  rounding to whole cells, the base size is half the image's shorter side.
- Cells in the padding around an image weigh nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box, Size
from dualfocus_eval.engines.attention import AttendingEngine, AttentionRequest, ImageAttention, readable_families
from dualfocus_eval.engines.base import Engine, Failure, GenerateRequest, Message
from dualfocus_eval.families.grids import ImageGrid
from dualfocus_eval.method.calls import call
from dualfocus_eval.method.conversations import macro_conversation, system_turn
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.grounding.told import told_region
from dualfocus_eval.method.prompts import GENERAL_PROMPT
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Fallback

__all__ = ["ATTENTION", "best_window", "relative_attention"]

SCALES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Sides of the windows in base sizes."""


@dataclass(frozen=True)
class _Attention:
    name: str = "attention"
    version: int = 2
    responds: bool = False

    def problem(self, engine: Engine, settings: GroundingSettings) -> str | None:
        if isinstance(engine, AttendingEngine):
            return engine.attention_problem(settings.attention_layer)
        return (
            "a model's attention can be read with engine=in_process only, and for these model types: "
            f"{readable_families()}; choose another grounding method"
        )

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        if not isinstance(engine, AttendingEngine):
            raise UserError(str(self.problem(engine, settings)))
        questions = [item.question for item in inputs]
        asked = [macro_conversation(question) for question in questions]
        general = [(*system_turn(one), Message("user", (*one.images, GENERAL_PROMPT))) for one in questions]
        requests = [AttentionRequest(conversation) for conversation in (*asked, *general)]
        found = call(partial(engine.attend, layer=settings.attention_layer), requests)
        return [
            _region(question, macro, other, engine, settings)
            for question, macro, other in zip(questions, found[: len(asked)], found[len(asked) :], strict=True)
        ]


ATTENTION = _Attention()


def _region(
    question: Question,
    asked: ImageAttention | Failure,
    general: ImageAttention | Failure,
    engine: Engine,
    settings: GroundingSettings,
) -> Region | NoRegion:
    if isinstance(asked, Failure):
        return NoRegion(Fallback.GROUNDING_FAILED, cause=asked)
    if isinstance(general, Failure):
        return NoRegion(Fallback.GROUNDING_FAILED, cause=general)
    (picture,) = question.images
    box = best_window(relative_attention(asked, general), asked.grid, picture.pixels.size)
    return told_region(question, box, engine, settings)


def relative_attention(asked: ImageAttention, general: ImageAttention) -> Any:
    """(rows, columns): the attention under the question in units of that under the general instruction.

    Cells whose centre is not in the image are 0.
    """
    smallest = np.finfo(np.float32).tiny
    ratio = asked.weights.astype(np.float64) / np.maximum(general.weights.astype(np.float64), smallest)
    return np.where(_in_image(asked.grid), ratio, 0.0)


def best_window(importance: Any, grid: ImageGrid, image_size: Size) -> Box:
    """The window that stands out most, as a box of the image of ``image_size``.

    ``importance`` is (rows, columns). Of windows that stand out equally the smallest is taken, of equal sums the first
    in reading order.
    """
    best, most = (0, 0, grid.rows, grid.columns), -math.inf
    for rows, columns in _window_sizes(grid, image_size):
        sums = _window_sums(importance, rows, columns)
        row, column = np.unravel_index(int(sums.argmax()), sums.shape)
        contrast = sums[row, column] - np.mean(_neighbours(sums, int(row), int(column)) or sums[row, column])
        if contrast > most:
            best, most = (int(row), int(column), rows, columns), contrast
    return grid.part(*best).clipped()


def _in_image(grid: ImageGrid) -> Any:
    """(rows, columns): whether the centre of each cell lies in the image."""
    cells = [[grid.part(row, column) for column in range(grid.columns)] for row in range(grid.rows)]
    return np.array(
        [[0 < cell.x1 + cell.x2 < 2 and 0 < cell.y1 + cell.y2 < 2 for cell in row] for row in cells], dtype=bool
    )


def _window_sizes(grid: ImageGrid, image_size: Size) -> Iterator[tuple[int, int]]:
    """(rows, columns) of each window in whole cells, the smallest first; about square in pixels of the image."""
    shorter = min(image_size)
    rounding = grid.seen[1] / grid.rows / 2
    base = min(grid.seen) if min(grid.seen) + rounding < shorter else shorter / 2
    cell = grid.part(0, 0)
    width, height = cell.width * image_size[0], cell.height * image_size[1]
    for scale in SCALES:
        rows, columns = round(scale * base / height), round(scale * base / width)
        yield min(max(rows, 1), grid.rows), min(max(columns, 1), grid.columns)


def _window_sums(importance: Any, rows: int, columns: int) -> Any:
    """(places, places): the sum over the window at every place, from its top left cell."""
    total = np.pad(importance.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]


def _neighbours(sums: Any, row: int, column: int) -> list[float]:
    """The sums one step to each side, where there is one."""
    places = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    rows, columns = sums.shape
    return [float(sums[r, c]) for r, c in places if 0 <= r < rows and 0 <= c < columns]
