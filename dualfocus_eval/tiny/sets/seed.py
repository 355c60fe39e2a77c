"""``df_seed_img_mini``: SEED-Bench's nine dimensions asked of held-out scenes, four options each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.seed import DIMENSIONS, SEED_IMG
from dualfocus_eval.tiny.scenes.layout import Scene
from dualfocus_eval.tiny.scenes.multiple_choice import LETTERS, SceneChoice, choices_of, with_answers
from dualfocus_eval.tiny.scenes.questions import ANSWERS, ask
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
            values = _values(choice, _letter(dimension, asked[dimension]), rng)
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


def _letter(dimension: int, number: int) -> str:
    """The right letter of a dimension's question: of every four, each letter once."""
    block, place = divmod(number, len(LETTERS))
    return random.Random(f"seed-mini/letters/{dimension}/{block}").sample(LETTERS, len(LETTERS))[place]


def _values(choice: SceneChoice, letter: str, rng: random.Random) -> dict[str, str]:
    wrong = iter(rng.sample(choice.wrong, len(LETTERS) - 1))
    texts = {f"choice_{each.lower()}": choice.asked.answer if each == letter else next(wrong) for each in LETTERS}
    return {"question": choice.asked.question, "answer": letter, **texts}


def _choices(scene: Scene, dimension: int, rng: random.Random) -> Iterator[SceneChoice]:
    """The scene's questions in one of SEED-Bench's dimensions."""
    if dimension in OWN_KINDS:
        yield from choices_of(scene, OWN_KINDS[dimension], rng)
        return
    for entry in ask(scene, rng):
        # A text that is itself an option's letter would be two answers in one.
        if entry.kind in OF_KINDS[dimension] and entry.answer not in LETTERS:
            yield with_answers(entry, [answer for answer in ANSWERS[entry.kind] if answer not in LETTERS])
