"""``df_pope_mini``: present and absent objects of held-out scenes, in POPE's three splits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.pope import POPE
from dualfocus_eval.tiny.scenes.layout import Scene
from dualfocus_eval.tiny.scenes.questions import NEGATIVES, absent_objects, existence
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 420, 60
PER_ANSWER = 3


def write(tasks: Path) -> list[Path]:
    """Write the three splits below ``tasks`` and return their files."""
    from datasets import Features, Image

    columns = POPE.columns()
    features = Features({**columns, "image": Image()})
    scenes = list(held_out(FIRST_SCENE, SCENES))
    files = []
    for split in NEGATIVES:
        rows = [row for scene in scenes for row in _rows(scene, split)]
        numbered = [row | {"id": str(number), "question_id": str(number)} for number, row in enumerate(rows, 1)]
        files.append(write_table(tasks / "pope" / "data" / f"{split}.parquet", numbered, features))
    return files


def _rows(scene: Scene, split: str) -> Iterator[dict[str, Any]]:
    """Present and absent objects in turn, as many of each, as in POPE's own files."""
    rng = random.Random(f"pope-mini/{split}/{scene.index}")
    present = sorted({item.name for item in scene.items})
    rng.shuffle(present)
    absent = absent_objects(scene, split, PER_ANSWER, rng)
    image = stored_image(scene)
    for yes, no in zip(present[:PER_ANSWER], absent, strict=False):
        for entry in (existence(scene, yes, True), existence(scene, no, False)):
            yield {
                "question": entry.question, "answer": entry.answer, "image_source": scene.image_id, "image": image,
                "category": split,
            }  # fmt: skip
