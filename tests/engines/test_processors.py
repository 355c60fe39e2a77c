"""Processors that lack values, or contradict their model: completed from config.json, or refused when loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.engines.base import GenerateRequest, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.engines.processors import check_image_tokens
from tests.engines.asking import assert_alike

SETTINGS = "processor_config.json"
REQUEST = GenerateRequest((Message("user", (Picture(Image.new("RGB", (40, 30), "red")), "is there a red cup")),), 4)


def save(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """Write the checkpoint; its processor's settings."""
    checkpoint.model.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    return settings


@pytest.mark.parametrize("architecture", ["llava", "llava_next"])
@pytest.mark.parametrize("lost", ["num_additional_image_tokens", "patch_size", "vision_feature_select_strategy", None])
def test_what_an_older_processor_does_not_tell_is_in_config_json(
    architecture: str, lost: str | None, tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    checkpoint = checkpoint_of(architecture)
    settings = save(checkpoint, tmp_path)
    if lost is None:  # as before processors had settings of their own
        images = settings["image_processor"] | {"processor_class": settings["processor_class"]}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(images))
        (tmp_path / SETTINGS).unlink()
    else:
        del settings[lost]
        (tmp_path / SETTINGS).write_text(json.dumps(settings))
    engine = load_engine(EngineConfig(str(tmp_path), device="cpu"))
    assert_alike(engine.generate([REQUEST]), TransformersEngine(checkpoint, 1, 0).generate([REQUEST]))


def test_what_neither_file_tells_is_refused_without_weights(llava: Checkpoint, tmp_path: Path) -> None:
    settings = save(llava, tmp_path)
    del settings["num_additional_image_tokens"]
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["model_type"] = "pixtral"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    with pytest.raises(CheckpointError, match=r"has no num_additional_image_tokens, and config\.json does not tell it"):
        load_processor(EngineConfig(str(tmp_path), device="cpu"))


@pytest.mark.parametrize("architecture", ["llava", "qwen2_vl"])
def test_another_number_of_tokens_than_the_model_encodes(
    architecture: str, tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    settings = save(checkpoint_of(architecture), tmp_path)
    if architecture == "llava":
        settings["num_additional_image_tokens"] = 0
    else:
        settings["image_processor"]["merge_size"] = 1
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="cannot encode a picture as its processor prepares it"):
        load_engine(EngineConfig(str(tmp_path), device="cpu"))


@pytest.mark.parametrize(
    ("weights", "processor"), [("gemma4", "gemma3"), ("qwen3_vl", "qwen2_5_vl"), ("qwen2_5_vl", "glm4v")]
)
def test_a_processor_of_another_family(
    weights: str, processor: str, tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    checkpoint_of(weights).model.config.save_pretrained(tmp_path)
    checkpoint_of(processor).processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    with pytest.raises(CheckpointError, match=f"its processor is a .*, but model_type '{weights}' takes a"):
        load_processor(EngineConfig(str(tmp_path), device="cpu"))


def test_a_processor_that_serves_two_families(tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint_of("qwen2_5_vl").model.config.save_pretrained(tmp_path)
    checkpoint_of("qwen2_vl").processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    assert type(load_processor(EngineConfig(str(tmp_path), device="cpu"))[1]).__name__ == "Qwen2VLProcessor"


def test_another_image_token_than_the_models(tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]) -> None:
    save(checkpoint_of("qwen3_vl"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_token_id": config["image_token_id"] + 1}))
    with pytest.raises(
        CheckpointError, match=r"an image's token is \d+ for its processor and \d+ in config.json; take"
    ):
        load_engine(EngineConfig(str(tmp_path), device="cpu"))


def test_a_processor_without_what_the_model_takes(checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint, other = checkpoint_of("qwen2_5_vl"), checkpoint_of("internvl")
    with pytest.raises(CheckpointError, match="its processor does not make what the model takes of a picture: 'image_"):
        check_image_tokens(checkpoint.model, other.processor, checkpoint.family, "mixed")


@pytest.mark.parametrize(("architecture", "frames"), [("qwen3_vl", 1), ("qwen3_5", 1), ("glm4v", 2), ("glm46v", 2)])
def test_pixel_limits_reach_the_processor(
    architecture: str, frames: int, tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    """GLM's processors count a picture as two frames."""
    checkpoint = checkpoint_of(architecture)
    checkpoint.model.config.save_pretrained(tmp_path)
    checkpoint.processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    picture = Image.new("RGB", (160, 80))
    areas = []
    for limits in ({"max_pixels": 1024}, {"min_pixels": 2**16, "max_pixels": 2**17}):
        config = EngineConfig(str(tmp_path), device="cpu", **limits)
        _, processor, family = load_processor(config)
        width, height = family.encoded_size(image_inputs(processor, picture), processor)
        areas.append(frames * width * height)
    assert 512 <= areas[0] <= 1024
    assert 2**16 <= areas[1] <= 2**17
