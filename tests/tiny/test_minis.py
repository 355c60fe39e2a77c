"""The committed minis are what the command writes, and hold what the tasks promise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.tiny.sets import HELD_OUT_SEED, write_minis

TASKS = resource_folder("tasks")
POPE = [f"pope/data/{split}.parquet" for split in ("random", "popular", "adversarial")]
SCENES = "scenes/data/mini.parquet"
FILES = sorted(str(path.relative_to(TASKS)) for path in TASKS.glob("*/data/*.parquet"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    assert sorted(str(path.relative_to(folder)) for path in write_minis(folder)) == FILES
    return folder


@pytest.mark.parametrize("name", FILES)
def test_the_command_regenerates_the_committed_rows(rendered: Path, name: str) -> None:
    assert pq.read_table(rendered / name).equals(pq.read_table(TASKS / name))


def rows(name: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = pq.read_table(TASKS / name).to_pylist()
    return content


def test_scenes_hold_details_and_globals_in_equal_parts() -> None:
    found = rows(SCENES)
    assert len(found) >= 2000
    levels = Counter(row["level"] for row in found)
    assert levels["detail"] == pytest.approx(levels["global"], rel=0.05)
    assert len({row["question_id"] for row in found}) == len(found)


@pytest.mark.parametrize("name", POPE)
def test_pope_is_half_yes_over_the_same_images(name: str) -> None:
    found = rows(name)
    assert Counter(row["answer"] for row in found) == {"yes": len(found) // 2, "no": len(found) // 2}
    assert {row["image_source"] for row in found} == {row["image_source"] for row in rows(POPE[0])}


def test_minis_show_scenes_of_their_own() -> None:
    """No scene is in two of them, but for benchmarks that ask about the same images in several files."""
    owners: dict[bytes, set[str]] = {}
    for name in FILES:
        column = pq.read_table(TASKS / name, columns=["image"]).column("image").combine_chunks()
        images = column.flatten() if pa.types.is_list(column.type) else column
        for content in images.field("bytes"):
            owners.setdefault(content.as_py(), set()).add(name.split("/")[0])
    assert all(len(found) == 1 for found in owners.values())


def test_no_recipe_trains_on_the_held_out_scenes() -> None:
    for recipe in resource_folder("models").glob("*.yaml"):
        train = yaml.safe_load(recipe.read_text()).get("train") or {}
        assert train.get("scenes") != HELD_OUT_SEED
