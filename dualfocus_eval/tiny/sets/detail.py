"""``df_detail_mini``: V*Bench's format on scenes of 2,000 pixels, asked about marks of less than 0.4% of the image.

The box of a question is that of the object that carries the mark, which is what the embedded checkpoint looks for.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.common.geometry import union
from dualfocus_eval.datasets.vstar import QUESTIONS, VSTAR
from dualfocus_eval.method.prompts import LETTER_HINT
from dualfocus_eval.tiny.scenes.layout import PixelBox, Scene, compose, enlarged
from dualfocus_eval.tiny.scenes.multiple_choice import (
    LETTERS,
    SceneChoice,
    letter_in_turn,
    lettered,
    without_letters,
)
from dualfocus_eval.tiny.scenes.questions import ask
from dualfocus_eval.tiny.scenes.render import paint
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write", "write_release"]

FIRST_SCENE, SCENES = 5000, 190
SIZES, SCALE = ((500, 500), (500, 375), (375, 500)), 4
"""Scenes are composed in ``SIZES`` and painted ``SCALE`` times as large: their longer side has 2,000 pixels."""
KINDS = ("mark_color", "mark_shape", "text")
CATEGORY = "direct_attributes"


def write(tasks: Path) -> list[Path]:
    """Write the set, every question about its scenes, below ``tasks`` and return its file."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    features = Features({
        **VSTAR.columns(), "target": List(Value("float64"), length=4), "image_id": text, "kind": text, "image": Image(),
    })  # fmt: skip
    asked = Counter[str]()
    rows: list[dict[str, Any]] = []
    for scene in held_out(FIRST_SCENE, SCENES, SIZES):
        rng = random.Random(f"detail-mini/{scene.index}")
        image = stored_image(enlarged(scene, SCALE), optimize=False)
        for choice in _choices(scene, rng):
            identity = {"question_id": str(len(rows)), "image_id": scene.image_id, "image": image}
            rows.append(_values(choice, asked, rng) | identity)
    return [write_table(tasks / "vstar" / "data" / "mini.parquet", rows, features)]


def write_release(out: Path, seed: int, count: int, on_question: Callable[[], object] = lambda: None) -> None:
    """Write ``count`` questions about scenes of ``seed`` in the layout of V*Bench's release: one per image."""
    (out / CATEGORY).mkdir(parents=True, exist_ok=True)
    asked = Counter[str]()
    with (out / QUESTIONS).open("w", encoding="utf-8") as lines:
        for number, (scene, choice, rng) in enumerate(_one_per_scene(seed, count, asked)):
            values = _values(choice, asked, rng)
            path = out / CATEGORY / f"{scene.image_id}.png"
            paint(enlarged(scene, SCALE)).save(path)
            x1, y1, x2, y2 = values["box"]
            annotation = {"target_object": [choice.asked.kind], "bbox": [[x1, y1, x2 - x1, y2 - y1]]}
            path.with_suffix(".json").write_text(json.dumps(annotation))
            record = {name: values[name] for name in ("text", "category", "label")}
            record |= {"question_id": number, "image": f"{CATEGORY}/{path.name}"}
            lines.write(json.dumps(record) + "\n")
            on_question()


def _one_per_scene(seed: int, count: int, asked: Counter[str]) -> Iterator[tuple[Scene, SceneChoice, random.Random]]:
    """A question of the kind ``asked`` least so far about each of ``count`` scenes that have any."""
    index = 0
    while count:
        scene, rng = compose(seed, index, SIZES), random.Random(f"detail/{seed}/{index}")
        index += 1
        if choices := list(_choices(scene, rng)):
            yield scene, min(choices, key=lambda choice: asked[choice.asked.kind]), rng
            count -= 1


def _choices(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    for entry in ask(scene, rng):
        if entry.kind in KINDS and (choice := without_letters(entry)):
            yield choice


def _values(choice: SceneChoice, asked: Counter[str], rng: random.Random) -> dict[str, Any]:
    """The columns of a question; ``asked`` counts those of its kind, whose right letters take turns."""
    kind = choice.asked.kind
    letter = letter_in_turn(f"detail-mini/{kind}", asked[kind])
    asked[kind] += 1
    lines = (f"({each}) {text}" for each, text in zip(LETTERS, lettered(choice, letter, rng), strict=True))
    return {
        "text": "\n".join([choice.asked.question, *lines, LETTER_HINT]),
        "category": CATEGORY,
        "label": letter,
        "box": _scaled(choice.asked.region),
        "target": _scaled(union(choice.asked.evidence)),
        "kind": kind,
    }


def _scaled(box: PixelBox) -> list[int]:
    return [SCALE * side for side in box]
