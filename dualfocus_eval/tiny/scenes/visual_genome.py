"""Writes scenes as a Visual Genome release: its JSON files and a folder of images."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dualfocus_eval.tiny.scenes.layout import Item, PixelBox, Scene
from dualfocus_eval.tiny.scenes.questions import ask
from dualfocus_eval.tiny.scenes.render import paint

__all__ = ["write_visual_genome"]


def write_visual_genome(scenes: Iterable[Scene], out: Path, on_image: Callable[[], None] = lambda: None) -> int:
    """Write ``scenes`` into the folder ``out`` and return how many questions they got.

    ``image_data.json``, ``objects.json`` (marks are objects of their own), ``attributes.json``, ``relationships.json``
    (a mark is ON its object), ``region_descriptions.json``, ``question_answers.json`` (v1.2: referred objects with
    boxes) and ``images/ID.png``. Ids count from 1 within the folder, as Visual Genome's do.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Any]] = {name: [] for name in _TABLES}
    ids = _Ids()
    for image_id, scene in enumerate(scenes, 1):
        paint(scene).save(out / "images" / f"{image_id}.png")
        for name, rows in _annotations(scene, image_id, ids).items():
            tables[name].append(rows)
        on_image()
    for name, rows in tables.items():
        (out / f"{name}.json").write_text(json.dumps(rows, separators=(",", ":")) + "\n", encoding="utf-8")
    return sum(len(entry["qas"]) for entry in tables["question_answers"])


_TABLES = ("image_data", "objects", "attributes", "relationships", "region_descriptions", "question_answers")


class _Ids:
    """Running numbers that are unique over the whole release."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


def _annotations(scene: Scene, image_id: int, ids: _Ids) -> dict[str, Any]:
    objects = [_object(ids(), item.name, item.box) for item in scene.items]
    marks = {
        index: _object(ids(), item.mark.kind, item.mark.box) for index, item in enumerate(scene.items) if item.mark
    }
    return {
        "image_data": {
            "image_id": image_id, "width": scene.width, "height": scene.height, "file_name": f"{image_id}.png",
            "place": scene.place, "scene": scene.image_id,
        },
        "objects": {"image_id": image_id, "objects": [*objects, *marks.values()]},
        "attributes": {
            "image_id": image_id,
            "attributes": [
                *(entry | {"attributes": [item.color]} for entry, item in zip(objects, scene.items, strict=True)),
                *(entry | {"attributes": _mark_attributes(scene.items[index])} for index, entry in marks.items()),
            ],
        },
        "relationships": {
            "image_id": image_id,
            "relationships": [
                {
                    "relationship_id": ids(), "predicate": "ON", "synsets": ["along.r.01"],
                    "subject": entry, "object": objects[index],
                }
                for index, entry in marks.items()
            ],
        },
        "region_descriptions": {
            "id": image_id,
            "regions": [_region(ids(), image_id, item) for item in scene.items],
        },
        "question_answers": {"id": image_id, "qas": _questions(scene, image_id, objects, ids)},
    }  # fmt: skip


def _object(object_id: int, name: str, box: PixelBox) -> dict[str, Any]:
    return {"object_id": object_id, "names": [name], "synsets": [f"{name}.n.01"], **_extent(box)}


def _extent(box: PixelBox) -> dict[str, int]:
    return {"x": box[0], "y": box[1], "w": box[2] - box[0], "h": box[3] - box[1]}


def _mark_attributes(item: Item) -> list[str]:
    mark = item.mark
    if mark is None:
        return []
    return [mark.color, mark.shape] if mark.kind == "label" else [mark.color, mark.shape, mark.size]


def _region(region_id: int, image_id: int, item: Item) -> dict[str, Any]:
    extent = _extent(item.box)
    return {
        "region_id": region_id, "image_id": image_id, "phrase": f"a {item.color} {item.name}",
        "x": extent["x"], "y": extent["y"], "width": extent["w"], "height": extent["h"],
    }  # fmt: skip


def _questions(scene: Scene, image_id: int, objects: list[dict[str, Any]], ids: _Ids) -> list[dict[str, Any]]:
    rng = random.Random(f"visual-genome/{scene.seed}/{scene.index}")
    return [
        {
            "qa_id": ids(), "image_id": image_id, "question": entry.question, "answer": entry.answer,
            "q_objects": [objects[index] for index in entry.referents], "a_objects": [],
        }
        for entry in ask(scene, rng)
    ]  # fmt: skip
