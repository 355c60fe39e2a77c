"""Paints a scene with Pillow. Coordinates of the shapes are fractions of the object's box."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageChops, ImageDraw, ImageFont

from dualfocus_eval.tiny.scenes.layout import COLORS, LABEL_SIDE, Item, Mark, PixelBox, Scene

__all__ = ["paint", "paint_mark"]

Color = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

BACKDROPS: dict[str, tuple[Color, Color, float]] = {
    "beach": ((150, 205, 240), (232, 212, 160), 0.45),
    "park": ((170, 215, 250), (120, 190, 100), 0.5),
    "street": ((190, 190, 200), (100, 100, 105), 0.55),
    "kitchen": ((240, 232, 215), (180, 140, 105), 0.65),
    "desert": ((250, 205, 150), (215, 150, 90), 0.4),
    "night": ((28, 32, 70), (40, 60, 50), 0.6),
}


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    return [
        (
            0.5 + (0.5 if k % 2 == 0 else inner) * math.sin(math.pi * k / points),
            0.5 - (0.5 if k % 2 == 0 else inner) * math.cos(math.pi * k / points),
        )
        for k in range(2 * points)
    ]


def _arc(
    center: tuple[float, float], radius: float, start: float, end: float, steps: int = 24
) -> list[tuple[float, float]]:
    angles = [math.radians(start + (end - start) * k / steps) for k in range(steps + 1)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]


OUTLINES: dict[str, list[tuple[float, float]]] = {
    "ball": _arc((0.5, 0.5), 0.5, 0, 360, 40),
    "box": [(0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96)],
    "cone": [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "star": _star(5, 0.26),
    "ring": _arc((0.5, 0.5), 0.5, 0, 360, 40),
    "kite": [(0.5, 0.0), (0.9, 0.42), (0.5, 1.0), (0.1, 0.42)],
    "cross": [
        (0.3, 0.0), (0.7, 0.0), (0.7, 0.3), (1.0, 0.3), (1.0, 0.7), (0.7, 0.7),
        (0.7, 1.0), (0.3, 1.0), (0.3, 0.7), (0.0, 0.7), (0.0, 0.3), (0.3, 0.3),
    ],
    "moon": _arc((0.5, 0.5), 0.5, 40, 320, 30) + _arc((0.86, 0.5), 0.33, 285, 75, 20),
    "house": [(0.5, 0.0), (1.0, 0.4), (0.88, 0.4), (0.88, 1.0), (0.12, 1.0), (0.12, 0.4), (0.0, 0.4)],
    "tree": [
        (0.5, 0.0), (0.8, 0.35), (0.68, 0.35), (1.0, 0.75), (0.6, 0.75), (0.6, 1.0),
        (0.4, 1.0), (0.4, 0.75), (0.0, 0.75), (0.32, 0.35), (0.2, 0.35),
    ],
    "mug": [(0.0, 0.05), (0.72, 0.05), (0.72, 0.22), (1.0, 0.22), (1.0, 0.78), (0.72, 0.78), (0.72, 0.95), (0.0, 0.95)],
    "boat": [
        (0.46, 0.0), (0.95, 0.55), (0.54, 0.55), (0.54, 0.62), (1.0, 0.62), (0.8, 1.0), (0.2, 1.0), (0.0, 0.62),
        (0.46, 0.62),
    ],
    "fish": [*_arc((0.4, 0.5), 0.4, 30, 330, 30), (1.0, 0.14), (1.0, 0.86)],
    "arrow": [(0.0, 0.32), (0.52, 0.32), (0.52, 0.04), (1.0, 0.5), (0.52, 0.96), (0.52, 0.68), (0.0, 0.68)],
}  # fmt: skip

# What things are made of: a texture and its ink, which is never an object's colour. Two names share each ink, and those
# two look nothing alike.
MATERIALS: dict[str, tuple[str, Color]] = {
    "ball": ("horizontal", (255, 150, 190)), "box": ("grid", (120, 70, 30)), "cone": ("vertical", (235, 205, 170)),
    "star": ("dots", (80, 220, 230)), "ring": ("dots", (120, 70, 30)), "kite": ("rising", (255, 150, 190)),
    "cross": ("falling", (20, 20, 100)), "moon": ("vertical", (130, 130, 130)), "house": ("horizontal", (115, 125, 20)),
    "tree": ("falling", (115, 125, 20)), "mug": ("dots", (235, 205, 170)), "boat": ("rising", (130, 130, 130)),
    "fish": ("grid", (80, 220, 230)), "arrow": ("vertical", (20, 20, 100)),
}  # fmt: skip

STICKERS: dict[str, list[tuple[float, float]]] = {
    "circle": _arc((0.5, 0.5), 0.5, 0, 360, 20),
    "square": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "triangle": [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "cross": [
        (0.33, 0.0), (0.67, 0.0), (0.67, 0.33), (1.0, 0.33), (1.0, 0.67), (0.67, 0.67),
        (0.67, 1.0), (0.33, 1.0), (0.33, 0.67), (0.0, 0.67), (0.0, 0.33), (0.33, 0.33),
    ],
}  # fmt: skip


def paint(scene: Scene) -> Image.Image:
    """The scene's RGB image of ``scene.width`` by ``scene.height`` pixels."""
    rng = random.Random(f"dualfocus-paint/{scene.seed}/{scene.index}")
    image = _backdrop(scene, rng)
    for item in scene.items:
        _paint_item(image, item, scene.scale)
    return image


def _backdrop(scene: Scene, rng: random.Random) -> Image.Image:
    upper, lower, horizon = BACKDROPS[scene.place]
    horizon += rng.uniform(-0.08, 0.08)
    image = Image.new("RGB", (scene.width, scene.height), _vary(upper, rng))
    draw = ImageDraw.Draw(image)
    edge = int(horizon * scene.height)
    draw.rectangle((0, edge, scene.width, scene.height), fill=_vary(lower, rng))
    for _ in range(rng.randint(6, 14)):
        x, y, length = rng.randint(0, scene.width), rng.randint(0, scene.height), rng.randint(10, 60)
        tone = _vary(upper if y < edge else lower, rng, 24)
        draw.rectangle((x, y, x + length * scene.scale, y + rng.randint(2, 6) * scene.scale), fill=tone)
    return image


def _vary(color: Color, rng: random.Random, amount: int = 12) -> Color:
    shift = rng.randint(-amount, amount)
    red, green, blue = (max(0, min(255, channel + shift)) for channel in color)
    return (red, green, blue)


def _paint_item(image: Image.Image, item: Item, scale: int) -> None:
    """Silhouette, texture inside it, outline, mark."""
    draw = ImageDraw.Draw(image)
    outline = _scaled(OUTLINES[item.name], item.box)
    draw.polygon(outline, fill=COLORS[item.color])
    _paint_texture(image, item, outline, scale)
    ink = (20, 20, 20) if item.color != "black" else (200, 200, 200)
    draw.polygon(outline, outline=ink, width=3 * scale)
    if item.mark is not None:
        paint_mark(draw, item.mark, item.color, scale)


def _paint_texture(image: Image.Image, item: Item, outline: Points, scale: int) -> None:
    x1, y1, x2, y2 = item.box
    side = x2 - x1
    inside = Image.new("1", (side, y2 - y1))
    ImageDraw.Draw(inside).polygon([(x - x1, y - y1) for x, y in outline], fill=1)
    texture, ink = MATERIALS[item.name]
    strokes = Image.new("1", inside.size)
    _stroke(ImageDraw.Draw(strokes), texture, side, step=max(side // 6, 8 * scale))
    image.paste(ink, (x1, y1), ImageChops.logical_and(inside, strokes))


def _stroke(draw: ImageDraw.ImageDraw, texture: str, side: int, step: int) -> None:
    width = step // 3 if texture == "grid" else step // 2
    for start in range(-side + step // 2, 2 * side, step):
        if texture in ("horizontal", "grid"):
            draw.line((0, start, side, start), fill=1, width=width)
        if texture in ("vertical", "grid"):
            draw.line((start, 0, start, side), fill=1, width=width)
        if texture == "rising":
            draw.line((start, side, start + side, 0), fill=1, width=width)
        if texture == "falling":
            draw.line((start, 0, start + side, side), fill=1, width=width)
        if texture == "dots":
            for row in range(step // 2, side, step):
                draw.ellipse((start - step // 3, row - step // 3, start + step // 3, row + step // 3), fill=1)


def paint_mark(draw: ImageDraw.ImageDraw, mark: Mark, ground: str, scale: int = 1) -> None:
    """A mark on a plain patch of the colour ``ground``, so that no texture runs into it; ``scale`` is the scene's."""
    x1, y1, x2, y2 = mark.box
    margin = 4 * scale
    draw.rectangle((x1 - margin, y1 - margin, x2 + margin - 1, y2 + margin - 1), fill=COLORS[ground])
    if mark.kind == "sticker":
        draw.polygon(_scaled(STICKERS[mark.shape], mark.box), fill=COLORS[mark.color])
        return
    ink = (20, 20, 20) if mark.color in ("white", "yellow", "orange") else (250, 250, 250)
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLORS[mark.color])
    draw.text(((x1 + x2) / 2, (y1 + y2) / 2), mark.shape, fill=ink, font=_font(scale), anchor="mm")


@cache
def _font(scale: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(LABEL_SIDE * scale)


def _scaled(points: Points, box: PixelBox) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1 + x * (x2 - x1 - 1), y1 + y * (y2 - y1 - 1)) for x, y in points]
