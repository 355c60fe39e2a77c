"""Vision first: teach the encoder what lies under each of its patches, in the decoder's own words.

Every patch of a scene, or of a crop of one, is labelled with what it shows: the object's name and colour, its mark, its
box in the frame; the place where there is no object. The classifiers are the language model's token embeddings, so
that when the decoder starts to learn, a question's word and the patches that show the thing already point the same way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dualfocus_eval.common.geometry import union
from dualfocus_eval.tiny.scenes.layout import (
    COLORS,
    GLYPHS,
    NAMES,
    PLACES,
    STICKER_SHAPES,
    Mark,
    PixelBox,
    Scene,
    compose,
    mark_at,
    within,
)
from dualfocus_eval.tiny.scenes.render import paint, paint_mark
from dualfocus_eval.tiny.training.plan import FRAMES
from dualfocus_eval.training.encoding import IGNORED

__all__ = ["SLOTS", "PatchFrames", "resized"]

BACKGROUND = "?"
COORDINATES = tuple(f"{value / 100:.2f}" for value in range(101))
SLOTS: dict[str, tuple[str, ...]] = {
    "name": (BACKGROUND, *(f" {name}" for name in NAMES)),
    "color": tuple(COLORS),
    "place": PLACES,
    "mark_color": tuple(COLORS),
    "mark_shape": (*STICKER_SHAPES, *GLYPHS),
    "mark_size": ("small", "large"),
    "x1": COORDINATES,
    "y1": COORDINATES,
    "x2": COORDINATES,
    "y2": COORDINATES,
}
CHART_STEP = 46
"""Pixels from mark to mark of a chart."""
COVERED = 0.2
"""Share of a patch that an object's box must cover for the patch to be the object's."""
MARKED = 0.5
"""A mark belongs to the patch that holds most of it, and to those that hold at least this share of as much."""


class PatchFrames(Sequence[list[dict[str, Any]]]):
    """Frames of scenes with a label per patch and slot; ``counts`` says how many of each kind in `FRAMES` per scene."""

    def __init__(self, seed: int, start: int, scenes: int, side: int, grid: int, counts: Mapping[str, int]) -> None:
        self.seed, self.start, self.scenes = seed, start, scenes
        self.side, self.grid, self.counts = side, grid, counts
        self.codes = {slot: {word: code for code, word in enumerate(words)} for slot, words in SLOTS.items()}

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: Any) -> Any:
        """Frames of one scene: ``image`` (side, side, 3) uint8, ``labels`` (grid * grid, slots) int64."""
        if not 0 <= index < self.scenes:
            raise IndexError(index)
        scene = compose(self.seed, self.start + index)
        rng = random.Random(f"patch-frames/{self.seed}/{scene.index}")
        picture = paint(scene)
        return [
            self._chart(rng) if kind == "chart" else self._view(scene, picture, _frame(kind, scene, rng))
            for kind in FRAMES
            for _ in range(self.counts.get(kind, 0))
        ]

    def _view(self, scene: Scene, picture: Image.Image, frame: PixelBox) -> dict[str, Any]:
        return {"image": resized(picture.crop(frame), self.side), "labels": self._labels(scene, frame)}

    def _chart(self, rng: random.Random) -> dict[str, Any]:
        """Marks in rows and columns on patches of colour, as large as a crop shows them."""
        side = rng.randint(140, 200)
        frame: PixelBox = (0, 0, side, side)
        image = Image.new("RGB", (side, side), COLORS[rng.choice(list(COLORS))])
        draw = ImageDraw.Draw(image)
        labels = np.full((self.grid, self.grid, len(SLOTS)), IGNORED)
        columns = side // CHART_STEP
        for cell in range(columns**2):
            x, y = (int((place + 0.5) * side / columns) + rng.randint(-6, 6) for place in divmod(cell, columns))
            ground = rng.choice(list(COLORS))
            mark = mark_at(rng, ground, x, y)
            draw.rectangle((x - 19, y - 19, x + 19, y + 19), fill=COLORS[ground])
            paint_mark(draw, mark, ground)
            self._assign(labels, self._marked(frame, mark), _mark_words(mark))
        return {"image": resized(image, self.side), "labels": labels.reshape(-1, len(SLOTS))}

    def _labels(self, scene: Scene, frame: PixelBox) -> NDArray[np.int64]:
        labels = np.full((self.grid, self.grid, len(SLOTS)), IGNORED)
        labels[..., 0] = self.codes["name"][BACKGROUND]
        labels[..., 2] = self.codes["place"][scene.place]
        for item in scene.items:
            words = {"name": f" {item.name}", "color": item.color}
            words |= {side: f"{value:.2f}" for side, value in asdict(within(frame, item.box).clipped()).items()}
            self._assign(labels, self._coverage(frame, item.box) > COVERED, words)
            if item.mark is not None:
                self._assign(labels, self._marked(frame, item.mark), _mark_words(item.mark))
        return labels.reshape(-1, len(SLOTS))

    def _assign(self, labels: NDArray[np.int64], patches: NDArray[np.bool_], words: dict[str, str]) -> None:
        """Write the codes of ``words`` on ``patches`` (grid, grid)."""
        for position, slot in enumerate(SLOTS):
            if slot in words:
                labels[patches, position] = self.codes[slot][words[slot]]

    def _marked(self, frame: PixelBox, mark: Mark) -> NDArray[np.bool_]:
        coverage = self._coverage(frame, mark.box)
        most: float = coverage.max()
        return (coverage > 0) & (coverage >= MARKED * most)

    def _coverage(self, frame: PixelBox, box: PixelBox) -> NDArray[np.float64]:
        """Share of each patch of ``frame`` that ``box`` covers: (grid, grid)."""
        part = within(frame, box)
        return np.outer(self._overlap(part.y1, part.y2), self._overlap(part.x1, part.x2))

    def _overlap(self, low: float, high: float) -> NDArray[np.float64]:
        """Share of each grid cell along one axis that [low, high] covers: (grid,)."""
        edges = np.arange(self.grid + 1) / self.grid
        return (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(min=0) * self.grid


def _mark_words(mark: Mark) -> dict[str, str]:
    words = {"mark_color": mark.color, "mark_shape": mark.shape}
    return words | {"mark_size": mark.size} if mark.kind == "sticker" else words


def resized(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """``image`` squeezed to the encoder's square, as its processor would: (side, side, 3)."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def _frame(kind: str, scene: Scene, rng: random.Random) -> PixelBox:
    if kind == "whole":
        return scene.frame
    return _random_crop(scene, rng) if kind == "crop" else _close_up(scene, rng)


def _close_up(scene: Scene, rng: random.Random) -> PixelBox:
    """One object, if there is one with a mark on it, framed as a good box would: up to a few pixels off."""
    items = [item for item in scene.items if item.mark is not None] or list(scene.items)
    x1, y1, x2, y2 = rng.choice(items).box
    half = (x2 - x1) / 2 + rng.uniform(4, 20)
    center_x, center_y = (x1 + x2) / 2 + rng.uniform(-8, 8), (y1 + y2) / 2 + rng.uniform(-8, 8)
    return _square(scene, center_x, center_y, half)


def _random_crop(scene: Scene, rng: random.Random) -> PixelBox:
    """A square around one object or two, loosely framed, clipped to the image: what a predicted box leads to."""
    items = rng.sample(scene.items, min(len(scene.items), rng.choice((1, 1, 1, 2))))
    x1, y1, x2, y2 = union([item.box for item in items] or [scene.frame])
    half = max(x2 - x1, y2 - y1) / 2 * rng.uniform(0.95, 1.35) + rng.uniform(0, 16)
    center_x = (x1 + x2) / 2 + rng.uniform(-0.15, 0.15) * half
    center_y = (y1 + y2) / 2 + rng.uniform(-0.15, 0.15) * half
    return _square(scene, center_x, center_y, half)


def _square(scene: Scene, center_x: float, center_y: float, half: float) -> PixelBox:
    """A square about a point, clipped to the image."""
    return (
        max(0, int(center_x - half)),
        max(0, int(center_y - half)),
        min(scene.width, int(center_x + half) + 1),
        min(scene.height, int(center_y + half) + 1),
    )
