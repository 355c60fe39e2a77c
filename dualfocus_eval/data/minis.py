"""The embedded held-out sets: ``df_scenes_mini`` and the three splits of ``df_pope_mini``, as small parquet files."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.data.scenes.layout import Scene, compose
from dualfocus_eval.data.scenes.questions import NEGATIVES, SceneQuestion, absent_objects, ask, balanced, existence
from dualfocus_eval.data.scenes.render import paint

__all__ = ["HELD_OUT_SEED", "write_minis"]

HELD_OUT_SEED = 20_240_222
"""Seed of the held-out scenes; training recipes use other seeds."""
SCENES, QUESTIONS_PER_LEVEL = 420, 3
POPE_SCENES, POPE_PER_ANSWER = 60, 3


def write_minis(tasks: Path) -> list[Path]:
    """Render both sets into ``tasks/*/data`` and return the files written."""
    return [_write_scenes(tasks / "scenes" / "data" / "mini.parquet"), *_write_pope(tasks / "pope" / "data")]


def _write_scenes(path: Path) -> Path:
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
    rows = [row for index in range(SCENES) for row in _scene_rows(compose(HELD_OUT_SEED, index))]
    return _write(path, rows, features)


def _scene_rows(scene: Scene) -> Iterator[dict[str, Any]]:
    """As many detail as global questions of one scene, kinds taking turns."""
    rng = random.Random(f"scenes-mini/{scene.index}")
    questions = balanced(ask(scene, rng), rng)
    image = _png(scene)
    for level in ("detail", "global"):
        chosen = [entry for entry in questions if entry.level == level][:QUESTIONS_PER_LEVEL]
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


def _write_pope(folder: Path) -> Iterator[Path]:
    from datasets import Features, Image, Value

    text = Value("string")
    columns = ("id", "question_id", "question", "answer", "image_source", "image", "category")
    features = Features({column: Image() if column == "image" else text for column in columns})
    scenes = [compose(HELD_OUT_SEED, SCENES + index) for index in range(POPE_SCENES)]
    for split in NEGATIVES:
        rows = [row for scene in scenes for row in _pope_rows(scene, split)]
        numbered = [row | {"id": str(number), "question_id": str(number)} for number, row in enumerate(rows, 1)]
        yield _write(folder / f"{split}.parquet", numbered, features)


def _pope_rows(scene: Scene, split: str) -> Iterator[dict[str, Any]]:
    """Present and absent objects in turn, as many of each, as in POPE's own files."""
    rng = random.Random(f"pope-mini/{split}/{scene.index}")
    present = sorted({item.name for item in scene.items})
    rng.shuffle(present)
    absent = absent_objects(scene, split, POPE_PER_ANSWER, rng)
    image = _png(scene)
    for yes, no in zip(present[:POPE_PER_ANSWER], absent, strict=False):
        for entry in (existence(scene, yes, True), existence(scene, no, False)):
            yield {
                "question": entry.question, "answer": entry.answer, "image_source": scene.image_id, "image": image,
                "category": split,
            }  # fmt: skip


def _png(scene: Scene) -> dict[str, Any]:
    content = io.BytesIO()
    paint(scene).save(content, "PNG", optimize=True)
    return {"bytes": content.getvalue(), "path": f"{scene.image_id}.png"}


def _write(path: Path, rows: list[dict[str, Any]], features: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[name] for row in rows] for name in features}
    table = pa.table(columns, schema=features.arrow_schema)
    # A dictionary of this size holds every image once, however many questions it has.
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**28, row_group_size=len(rows))
    return path
