"""``dualfocus train`` end to end on a few scenes: stages, export, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from dualfocus_eval.cli.train import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.arguments import resolve
from tests.tiny.training.conftest import SHAPE

RECIPE = f"""
inference: {{margin: 12, selection: own_context}}
train:
  seed: 1
  scenes: 7
  model: {{image_size: {SHAPE.image_size}, patch_size: {SHAPE.patch_size}, vision_width: 32, vision_layers: 1,
    vision_heads: 2, text_width: 32, text_layers: 1, text_heads: 2, text_mlp: 64}}
  stages:
    - {{name: vision, objective: patch_labels, frames: {{whole: 1, crop: 1}}, samples: 16, batch_size: 8,
        learning_rate: 0.001}}
    - {{name: close-ups, objective: patch_labels, frames: {{whole: 1, close_up: 2, chart: 1}}, samples: 16,
        batch_size: 8, learning_rate: 0}}
    - {{name: mix, objective: conversations, mix: {{macro: 1, grounding: 1, dualfocus: 1}}, guidance: 1,
        freeze: [vision_tower], samples: 16, batch_size: 8, learning_rate: 0.001}}
    - {{name: existence, objective: conversations, mix: {{existence: 1}}, rounded: true, samples: 8, batch_size: 8,
        learning_rate: 0}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    (folder / "small.yaml").write_text(RECIPE)
    assert main([str(folder / "small.yaml"), "--out", str(folder / "run")]) == 0
    return folder


def test_the_checkpoint_loads_and_answers(run: Path) -> None:
    checkpoint = run / "run" / "checkpoint"
    model, info = AutoModelForImageTextToText.from_pretrained(checkpoint, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    processor = AutoProcessor.from_pretrained(checkpoint)
    inputs = processor(text="USER: <image>\nIs it?\nASSISTANT: ", images=[torch.zeros(3, 40, 50)], return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]


def test_the_checkpoint_has_the_hub_layout_and_its_provenance(run: Path) -> None:
    checkpoint = run / "run" / "checkpoint"
    with safe_open(checkpoint / "model.safetensors", "pt") as weights:
        assert "vision_tower.vision_model.embeddings.class_embedding" in weights.keys()  # noqa: SIM118
    record = json.loads((checkpoint / "dualfocus.json").read_text())
    assert record["inference"] == {"margin": 12, "selection": "own_context"}
    assert [stage["stage"] for stage in record["provenance"]["stages"]] == ["vision", "close-ups", "mix", "existence"]


def test_the_harness_takes_the_checkpoints_settings(run: Path) -> None:
    config = resolve({"pretrained": str(run / "run" / "checkpoint")})
    assert config.settings.margin == 12
    assert config.settings.selection == "own_context"
    assert config.sources["margin"] == "checkpoint"


def test_frozen_weights_do_not_move(run: Path) -> None:
    def encoder(stage: str) -> dict[str, torch.Tensor]:
        with safe_open(run / "run" / stage / "model.safetensors", "pt") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys() if "vision_tower" in name}  # noqa: SIM118

    before, after = encoder("2-close-ups"), encoder("3-mix")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_stage_of_patch_labels_goes_on_with_the_heads_of_the_last(run: Path) -> None:
    """Its learning rate is zero in this recipe, so that they come out as they went in."""
    first, second = (
        load_file(run / "run" / stage / "patch_heads.safetensors") for stage in ("1-vision", "2-close-ups")
    )
    assert first.keys() == second.keys() == {"maps.weight", "log_scale"}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_rounded_stage_starts_from_what_a_checkpoint_would_have_had(run: Path) -> None:
    """Its learning rate is zero in this recipe, so that it ends where it started."""
    before, after = (load_file(run / "run" / stage / "model.safetensors") for stage in ("3-mix", "4-existence"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].to(torch.bfloat16).float(), after[name]) for name in before)
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_the_parts_of_the_loss_are_logged(run: Path) -> None:
    (entry,) = json.loads((run / "run" / "checkpoint" / "training.json").read_text())[2]["losses"]
    assert entry["loss"] == pytest.approx(entry["answer_loss"] + entry["guidance_loss"], abs=1e-3)


def test_a_finished_stage_is_not_run_again(run: Path) -> None:
    stages = [run / "run" / stage / "stage.json" for stage in ("1-vision", "2-close-ups", "3-mix", "4-existence")]
    before = [path.stat().st_mtime_ns for path in stages]
    stages[3].unlink()
    assert main([str(run / "small.yaml"), "--out", str(run / "run")]) == 0
    assert [path.stat().st_mtime_ns for path in stages[:3]] == before[:3]
    assert stages[3].exists()


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 1", "seed: 2"), ("scenes: 7", "scenes: 8"), ("margin: 12", "margin: 9")]
)
def test_a_stage_of_another_plan_is_not_mixed_in(run: Path, old: str, new: str) -> None:
    """What all stages share decides their weights too."""
    (run / "other.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(
        UserError, match=rf"1-vision holds stage vision under other settings or data \({old.split(':')[0]}"
    ):
        main([str(run / "other.yaml"), "--out", str(run / "run")])


def test_a_stage_whose_beginning_has_changed_is_not_gone_on_with(run: Path) -> None:
    weights = run / "run" / "1-vision" / "model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(UserError, match="1-vision: its files have been changed or cut"):
            main([str(run / "small.yaml"), "--out", str(run / "run")])
    finally:
        weights.write_bytes(before)


def test_a_stage_under_other_settings_is_not_mixed_in(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run / "other.yaml"
    other.write_text(
        RECIPE.replace(
            "samples: 16, batch_size: 8, learning_rate: 0.001}", "samples: 16, batch_size: 4, learning_rate: 0.001}"
        )
    )
    with pytest.raises(UserError, match="under other settings"):
        main([str(other), "--out", str(run / "run")])
