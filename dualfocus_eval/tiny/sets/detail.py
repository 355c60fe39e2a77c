"""``df_detail_mini``: V*Bench's format on held-out scenes of 2,000 pixels, whose details are below 1% of the image."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.common.geometry import union
from dualfocus_eval.datasets.vstar import VSTAR
from dualfocus_eval.method.prompts import LETTER_HINT
from dualfocus_eval.tiny.scenes.layout import Scene, enlarged
from dualfocus_eval.tiny.scenes.multiple_choice import (
    LETTERS,
    SceneChoice,
    letter_in_turn,
    lettered,
    without_letters,
)
from dualfocus_eval.tiny.scenes.questions import ask
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 5000, 200
SIZES, SCALE = ((500, 500), (500, 375), (375, 500)), 4
"""Scenes are composed in ``SIZES`` and painted ``SCALE`` times as large: their longer side has 2,000 pixels."""
KINDS = ("mark_color", "mark_shape", "text")


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image, Value

    text = Value("string")
    features = Features({**VSTAR.columns(), "image_id": text, "kind": text, "image": Image()})
    asked = Counter[str]()
    rows: list[dict[str, Any]] = []
    for scene in held_out(FIRST_SCENE, SCENES, SIZES):
        rng = random.Random(f"detail-mini/{scene.index}")
        image = stored_image(enlarged(scene, SCALE))
        for choice in _choices(scene, rng):
            kind = choice.asked.kind
            letter = letter_in_turn(f"detail-mini/{kind}", asked[kind])
            asked[kind] += 1
            identity = {"question_id": str(len(rows)), "image_id": scene.image_id, "image": image}
            rows.append(_values(choice, letter, rng) | identity)
    return [write_table(tasks / "vstar" / "data" / "mini.parquet", rows, features)]


def _choices(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    for entry in ask(scene, rng):
        if entry.kind in KINDS and (choice := without_letters(entry)):
            yield choice


def _values(choice: SceneChoice, letter: str, rng: random.Random) -> dict[str, Any]:
    options = zip(LETTERS, lettered(choice, letter, rng), strict=True)
    lines = (f"({each}) {text}" for each, text in options)
    return {
        "text": "\n".join([choice.asked.question, *lines, LETTER_HINT]),
        "category": "direct_attributes",
        "label": letter,
        "box": [SCALE * side for side in union(choice.asked.evidence)],
        "kind": choice.asked.kind,
    }
