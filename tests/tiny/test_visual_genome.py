"""The release written by ``dualfocus data scenes`` has Visual Genome's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dualfocus_eval.cli.data import main
from dualfocus_eval.tiny.scenes.layout import compose


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vg")
    assert main(["scenes", "--out", str(out), "--count", "5", "--seed", "3"]) == 0
    return out


def read(release: Path, name: str) -> list[Any]:
    content: list[Any] = json.loads((release / f"{name}.json").read_text())
    return content


def test_images_match_their_data(release: Path) -> None:
    for entry in read(release, "image_data"):
        with Image.open(release / "images" / entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])


def test_objects_are_the_scenes_items_and_marks(release: Path) -> None:
    for index, entry in enumerate(read(release, "objects")):
        items = compose(3, index).items
        names = [name for item in entry["objects"] for name in item["names"]]
        assert names == [item.name for item in items] + [item.mark.kind for item in items if item.mark]


def test_questions_refer_to_listed_objects(release: Path) -> None:
    objects = {item["object_id"]: item for entry in read(release, "objects") for item in entry["objects"]}
    asked = [qa for entry in read(release, "question_answers") for qa in entry["qas"]]
    assert len({qa["qa_id"] for qa in asked}) == len(asked) > 50
    for qa in asked:
        assert qa["question"]
        assert qa["answer"]
        for referred in qa["q_objects"]:
            assert objects[referred["object_id"]] == referred


def test_a_mark_is_on_its_object(release: Path) -> None:
    for entry in read(release, "relationships"):
        for relation in entry["relationships"]:
            mark, item = relation["subject"], relation["object"]
            assert item["x"] <= mark["x"]
            assert mark["x"] + mark["w"] <= item["x"] + item["w"]
            assert item["y"] <= mark["y"]
            assert mark["y"] + mark["h"] <= item["y"] + item["h"]
