"""What is in a scene: a place, objects with colours, and small marks on them. Deterministic in (seed, index)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dualfocus_eval.common.geometry import Box

__all__ = [
    "COLORS",
    "GLYPHS",
    "GROUP_SIDE",
    "LABEL_SIDE",
    "NAMES",
    "PLACES",
    "SIZES",
    "STICKER_SHAPES",
    "STICKER_SIDES",
    "Item",
    "Mark",
    "PixelBox",
    "Scene",
    "compose",
    "enlarged",
    "mark_at",
    "within",
]

PixelBox = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels of the image, end excluded."""

SIZES = ((448, 448), (512, 384), (384, 512))

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (245, 214, 40),
    "purple": (140, 50, 170),
    "orange": (245, 130, 30),
    "white": (246, 246, 246),
    "black": (25, 25, 25),
}

STICKER_SHAPES = ("circle", "square", "triangle", "cross")
GLYPHS = tuple("47ACEHKLPTUX")

PLACES = ("beach", "park", "street", "kitchen", "desert", "night")

# Which objects are common where. Popular and adversarial negatives of existence questions mean something only when
# objects are unevenly frequent and co-occur.
COMMON: dict[str, tuple[str, ...]] = {
    "beach": ("ball", "boat", "fish", "star", "kite"),
    "park": ("tree", "ball", "kite", "house", "box"),
    "street": ("house", "cone", "arrow", "box", "cross"),
    "kitchen": ("mug", "box", "ring", "fish", "ball"),
    "desert": ("cone", "tree", "star", "cross", "ring"),
    "night": ("moon", "star", "house", "boat", "arrow"),
}
NAMES = (
    "ball",
    "box",
    "cone",
    "star",
    "ring",
    "kite",
    "cross",
    "moon",
    "house",
    "tree",
    "mug",
    "boat",
    "fish",
    "arrow",
)

OBJECT_SIDE = (100, 144)
STICKER_SIDES = {"small": 13, "large": 23}
LABEL_SIDE = 26
GROUP_SIDE = (40, 58)


@dataclass(frozen=True)
class Mark:
    """A detail on an object: a coloured sticker, or a label with one character written on it."""

    kind: str
    """``sticker`` or ``label``."""
    color: str
    shape: str
    """A sticker's shape, or the character that a label shows."""
    size: str
    """``small`` or ``large``; labels come in one size."""
    box: PixelBox


@dataclass(frozen=True)
class Item:
    """One object."""

    name: str
    color: str
    box: PixelBox
    mark: Mark | None = None


@dataclass(frozen=True)
class Scene:
    """Everything that the picture shows; the painter adds nothing that matters to a question."""

    seed: int
    index: int
    place: str
    width: int
    height: int
    items: tuple[Item, ...]
    scale: int = 1
    """How many times larger everything is painted than in the scenes that the embedded checkpoint was trained on."""

    @property
    def image_id(self) -> str:
        """Stable name of the image."""
        return f"scene-{self.seed}-{self.index:06d}"

    @property
    def distinct(self) -> list[tuple[int, Item]]:
        """Objects that their name tells from all others, each after its index."""
        counts = Counter(item.name for item in self.items)
        return [(index, item) for index, item in enumerate(self.items) if counts[item.name] == 1]

    @property
    def frame(self) -> PixelBox:
        """The whole image."""
        return (0, 0, self.width, self.height)


def compose(seed: int, index: int, sizes: Sequence[tuple[int, int]] = SIZES) -> Scene:
    """Scene ``index`` of the endless series ``seed``, of one of ``sizes`` (width and height in pixels).

    Three or four single objects, each the only one of its name, and in half of the scenes a group of two to four small
    ones that share a name and a colour.
    """
    rng = random.Random(f"dualfocus-scenes/{seed}/{index}")
    width, height = rng.choice(sizes)
    place = rng.choice(PLACES)
    names = _names(rng, place, count=rng.randint(3, 4) + 1)
    placed: list[Item] = []
    for name in names[:-1]:
        box = _free_box(rng, width, height, rng.randint(*OBJECT_SIDE), placed)
        if box is None:
            continue
        color = rng.choice(list(COLORS))
        placed.append(Item(name, color, box, _mark(rng, color, box) if rng.random() < 0.85 else None))
    if rng.random() < 0.5:
        placed.extend(_group(rng, names[-1], width, height, placed))
    return Scene(seed, index, place, width, height, tuple(placed))


def enlarged(scene: Scene, scale: int) -> Scene:
    """The scene with everything in it ``scale`` times as large."""

    def scaled(box: PixelBox) -> PixelBox:
        x1, y1, x2, y2 = box
        return (scale * x1, scale * y1, scale * x2, scale * y2)

    items = (
        replace(item, box=scaled(item.box), mark=item.mark and replace(item.mark, box=scaled(item.mark.box)))
        for item in scene.items
    )
    return replace(
        scene, width=scale * scene.width, height=scale * scene.height, items=tuple(items), scale=scale * scene.scale
    )


def _names(rng: random.Random, place: str, count: int) -> list[str]:
    weights = [6 if name in COMMON[place] else 1 for name in NAMES]
    chosen: list[str] = []
    while len(chosen) < count:
        name = rng.choices(NAMES, weights)[0]
        if name not in chosen:
            chosen.append(name)
    return chosen


def _free_box(rng: random.Random, width: int, height: int, side: int, placed: list[Item]) -> PixelBox | None:
    gap = 6
    for _ in range(60):
        x, y = rng.randint(2, width - side - 2), rng.randint(2, height - side - 2)
        if all(
            x + side + gap <= box[0] or box[2] + gap <= x or y + side + gap <= box[1] or box[3] + gap <= y
            for box in (item.box for item in placed)
        ):
            return (x, y, x + side, y + side)
    return None


def _mark(rng: random.Random, object_color: str, box: PixelBox) -> Mark:
    side = box[2] - box[0]
    center_x = box[0] + side // 2 + rng.randint(-side // 14, side // 14)
    center_y = box[1] + side * 11 // 20 + rng.randint(-side // 14, side // 14)
    return mark_at(rng, object_color, center_x, center_y)


def mark_at(rng: random.Random, object_color: str, center_x: int, center_y: int) -> Mark:
    """A random mark about a point, of another colour than what it is on."""
    color = rng.choice([name for name in COLORS if name != object_color])
    if rng.random() < 0.5:
        return Mark("label", color, rng.choice(GLYPHS), "small", _around(center_x, center_y, LABEL_SIDE))
    size = rng.choice(tuple(STICKER_SIDES))
    return Mark("sticker", color, rng.choice(STICKER_SHAPES), size, _around(center_x, center_y, STICKER_SIDES[size]))


def _around(center_x: int, center_y: int, side: int) -> PixelBox:
    return (center_x - side // 2, center_y - side // 2, center_x - side // 2 + side, center_y - side // 2 + side)


def within(frame: PixelBox, box: PixelBox) -> Box:
    """``box`` as fractions of ``frame``, which it may stick out of."""
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    return Box(
        (box[0] - frame[0]) / width,
        (box[1] - frame[1]) / height,
        (box[2] - frame[0]) / width,
        (box[3] - frame[1]) / height,
    )


def _group(rng: random.Random, name: str, width: int, height: int, placed: list[Item]) -> list[Item]:
    color, side = rng.choice(list(COLORS)), rng.randint(*GROUP_SIDE)
    group: list[Item] = []
    for _ in range(rng.randint(2, 4)):
        box = _free_box(rng, width, height, side, [*placed, *group])
        if box is not None:
            group.append(Item(name, color, box))
    return group
