"""``df_seed_img_mini``: SEED-Bench's nine dimensions asked of held-out scenes, four options each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.seed import DIMENSIONS, SEED_IMG
from dualfocus_eval.tiny.scenes.layout import Scene
from dualfocus_eval.tiny.scenes.multiple_choice import (
    LETTERS,
    SceneChoice,
    choices_of,
    letter_in_turn,
    lettered,
    without_letters,
)
from dualfocus_eval.tiny.scenes.questions import ask
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 1000, 60
PER_SCENE = 6
OF_KINDS = {
    1: ("scene",),
    3: ("object_color", "mark_color", "mark_shape"),
    5: ("count",),
    9: ("text",),
}
"""Dimensions whose questions are asked of scenes anyway, by kind."""
OWN_KINDS = {2: "identity", 4: "location", 6: "position", 7: "content", 8: "label_count"}
"""The other dimensions, by the kind of multiple-choice question."""


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image, List

    features = Features({**SEED_IMG.columns(), "image": List(Image())})
    asked = Counter[int]()
    rows: list[dict[str, Any]] = []
    for scene in held_out(FIRST_SCENE, SCENES):
        rng = random.Random(f"seed-mini/{scene.index}")
        image = [stored_image(scene)]
        for dimension, choice in _chosen(scene, rng):
            letter = letter_in_turn(f"seed-mini/letters/{dimension}", asked[dimension])
            values = _values(choice, letter, rng)
            asked[dimension] += 1
            rows.append(
                values | {
                    "question_id": str(len(rows) + 1), "data_id": scene.image_id, "data_type": "image",
                    "question_type_id": dimension, "image": image,
                }
            )  # fmt: skip
    return [write_table(tasks / "seed" / "data" / "mini.parquet", rows, features)]


def _chosen(scene: Scene, rng: random.Random) -> list[tuple[int, SceneChoice]]:
    """One question in each of some dimensions; the first dimension moves on from scene to scene."""
    dimensions = [*DIMENSIONS][scene.index % len(DIMENSIONS) :] + [*DIMENSIONS][: scene.index % len(DIMENSIONS)]
    by_dimension = {dimension: list(_choices(scene, dimension, rng)) for dimension in dimensions}
    return [(dimension, rng.choice(found)) for dimension, found in by_dimension.items() if found][:PER_SCENE]


def _values(choice: SceneChoice, letter: str, rng: random.Random) -> dict[str, str]:
    options = zip(LETTERS, lettered(choice, letter, rng), strict=True)
    texts = {f"choice_{each.lower()}": text for each, text in options}
    return {"question": choice.asked.question, "answer": letter, **texts}


def _choices(scene: Scene, dimension: int, rng: random.Random) -> Iterator[SceneChoice]:
    """The scene's questions in one of SEED-Bench's dimensions."""
    if dimension in OWN_KINDS:
        yield from choices_of(scene, OWN_KINDS[dimension], rng)
        return
    for entry in ask(scene, rng):
        if entry.kind in OF_KINDS[dimension] and (choice := without_letters(entry)):
            yield choice
