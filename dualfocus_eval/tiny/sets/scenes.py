"""``df_scenes_mini``: every kind of question about held-out scenes, as many of details as of the whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.tiny.scenes.layout import Scene
from dualfocus_eval.tiny.scenes.questions import SceneQuestion, ask, balanced
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

SCENES, PER_LEVEL = 420, 3


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    features = Features(
        {
            "question_id": text,
            "image_id": text,
            "image": Image(),
            "question": text,
            "answer": text,
            "kind": text,
            "level": text,
            "box": List(Value("float32"), length=4),
            "object_size": Value("float32"),
        }
    )
    rows = [row for scene in held_out(0, SCENES) for row in _rows(scene)]
    return [write_table(tasks / "scenes" / "data" / "mini.parquet", rows, features)]


def _rows(scene: Scene) -> Iterator[dict[str, Any]]:
    """As many detail as global questions of one scene, kinds taking turns."""
    rng = random.Random(f"scenes-mini/{scene.index}")
    questions = balanced(ask(scene, rng), rng)
    image = stored_image(scene)
    for level in ("detail", "global"):
        chosen = [entry for entry in questions if entry.level == level][:PER_LEVEL]
        for number, entry in enumerate(chosen):
            yield {
                "question_id": f"{scene.image_id}-{level}-{number}", "image_id": scene.image_id, "image": image,
                "question": entry.question, "answer": entry.answer, "kind": entry.kind, "level": level,
                "box": list(entry.region), "object_size": _object_size(scene, entry),
            }  # fmt: skip


def _object_size(scene: Scene, entry: SceneQuestion) -> float | None:
    """Longer side of the one object that the question is about, in pixels."""
    if len(entry.referents) != 1:
        return None
    x1, y1, x2, y2 = scene.items[entry.referents[0]].box
    return float(max(x2 - x1, y2 - y1))
