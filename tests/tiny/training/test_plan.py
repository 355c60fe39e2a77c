"""A recipe's ``train`` section is refused before anything heavy loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.recipe import load_recipe, recipe_names
from dualfocus_eval.tiny.training.plan import TrainPlan, train_plan

GOOD = """
train:
  seed: 1
  scenes: 7
  stages:
    - {name: vision, objective: patch_labels, frames: {whole: 1}, samples: 8, batch_size: 4, learning_rate: 0.001}
    - {name: mix, objective: conversations, mix: {macro: 1}, samples: 8, batch_size: 4, learning_rate: 0.001}
"""


def plan(folder: Path, text: str) -> TrainPlan:
    path = folder / "recipe.yaml"
    path.write_text(text)
    found = train_plan(load_recipe(path))
    assert isinstance(found, TrainPlan)
    return found


def test_a_good_plan_is_read(tmp_path: Path) -> None:
    stages = plan(tmp_path, GOOD).stages
    assert [stage.name for stage in stages] == ["vision", "mix"]
    assert stages[1].mix == {"macro": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples: 8, batch", "sampels: 8, batch", "Did you mean samples"),
        ("patch_labels", "pixels", "not one of: patch_labels, conversations"),
        ("{whole: 1}", "{hole: 1}", "Did you mean whole"),
        ("{whole: 1}", "{whole: 0}", "at least one of: whole"),
        ("{whole: 1}", "[whole]", "frames: expected keys with values, found list"),
        ("{whole: 1}", "{whole: 2, crop: -1}", "crop: -1 must be at least 0"),
        ("{whole: 1}", "{whole: 1.5}", "whole: 1.5 is not a whole number"),
        ("frames: {whole: 1}", "frames: {whole: 1}, guidance: 1", "guidance means nothing to objective patch_labels"),
        ("mix: {macro: 1}", "mix: {macro: 1}, frames: {whole: 1}", "frames means nothing to objective conversations"),
        ("{macro: 1}", "{makro: 1}", "Did you mean macro"),
        ("{macro: 1}", "{macro: 0}", "positive weight"),
        ("scenes: 7", "scene: 7", "Did you mean scenes"),
        ("name: vision, ", "", "missing"),
        ("name: vision, ", "name: vision, rounded: true, ", "rounded means nothing to the first stage"),
        ("samples: 8", "samples: 0", "samples: 0 must be at least 1"),
        ("batch_size: 4", "batch_size: 0", "batch_size: 0 must be at least 1"),
        ("learning_rate: 0.001", "learning_rate: .nan", "learning_rate: nan must be a finite number and at least 0"),
        ("learning_rate: 0.001", "learning_rate: -1.0", "learning_rate: -1.0 must be at least 0"),
        ("learning_rate: 0.001", "learning_rate: 0.1, warmup: 2.0", "warmup: 2.0 must be at least 0 and at most 1"),
        ("patch_labels", "instructions", "to start from: train.base"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(tmp_path, GOOD.replace(old, new, 1))


def test_a_recipe_without_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no train section"):
        plan(tmp_path, "inference: {margin: 3}")


def test_the_embedded_recipe_is_valid() -> None:
    assert "dualfocus-tiny" in recipe_names()
    assert train_plan(load_recipe("dualfocus-tiny")).stages
