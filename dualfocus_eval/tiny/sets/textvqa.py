"""``df_textvqa_mini`` and ``df_textvqa_ocr_mini``: what is written on the labels of held-out scenes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.textvqa import ANSWERS, TEXTVQA
from dualfocus_eval.tiny.scenes.layout import GLYPHS, Item, Scene
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 4000, 180
ARTICLE = "A"
"""The official normalisation takes this label for an article and leaves nothing of it."""
MOST_DISSENTERS = 3
"""Four alike answers of ten would score full marks."""


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image

    features = Features({**TEXTVQA.columns(), "image": Image()})
    rows = [row for scene in held_out(FIRST_SCENE, SCENES) for row in _rows(scene)]
    numbered = [row | {"question_id": number} for number, row in enumerate(rows, 1)]
    return [write_table(tasks / "textvqa" / "data" / "mini.parquet", numbered, features)]


def _rows(scene: Scene) -> Iterator[dict[str, Any]]:
    rng = random.Random(f"textvqa-mini/{scene.index}")
    tokens = [text for _, text in _labels(scene)]
    rng.shuffle(tokens)
    image = stored_image(scene)
    for question, text in _questions(scene):
        yield {
            "image_id": scene.image_id, "question": question, "image_width": scene.width,
            "image_height": scene.height, "answers": _answers(text, rng),
            "image_classes": sorted({item.name for item in scene.items}), "set_name": "mini", "ocr_tokens": tokens,
            "image": image,
        }  # fmt: skip


def _labels(scene: Scene) -> list[tuple[Item, str]]:
    """Labelled objects and what is written on them."""
    return [(item, item.mark.shape) for item in scene.items if item.mark is not None and item.mark.kind == "label"]


def _questions(scene: Scene) -> Iterator[tuple[str, str]]:
    """Each label by the name of its object where that tells it from all others, in lower case as the release's are."""
    names = Counter(item.name for item in scene.items)
    for item, text in _labels(scene):
        if text != ARTICLE and names[item.name] == 1:
            yield f"what is written on the {item.name}?", text


def _answers(text: str, rng: random.Random) -> list[str]:
    """Ten people's answers: most write what is there, some in lower case; a few misread it, or say more than it."""
    others = [glyph for glyph in GLYPHS if glyph not in (text, ARTICLE)]
    dissenters = rng.randint(0, MOST_DISSENTERS)
    answers = [rng.choice((f"letter {text}", "unanswerable", rng.choice(others))) for _ in range(dissenters)]
    answers += [rng.choice((text, text, text.lower())) for _ in range(ANSWERS - dissenters)]
    rng.shuffle(answers)
    return answers
