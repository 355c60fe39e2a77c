"""Gemma checkpoints in the layout of their releases."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dualfocus_eval.engines.base import GenerateRequest, Message, Picture
from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.families import FAMILIES
from measurements.random_models import build
from tests.engines.asking import assert_alike

REQUEST = GenerateRequest((Message("user", (Picture(Image.new("RGB", (40, 30), "red")), "is there a red cup")),), 4)
Weights = dict[str, torch.Tensor]


def _gemma3_layout(weights: Weights) -> Weights:
    """The names on the hub."""
    names = {
        r"^model\.language_model\.": "language_model.model.",
        r"^model\.vision_tower\.": "vision_tower.vision_model.",
        r"^model\.multi_modal_projector\.": "multi_modal_projector.",
    }
    for pattern, name in names.items():
        weights = {re.sub(pattern, name, key): weight for key, weight in weights.items()}
    return weights


def _gemma4_layout(weights: Weights) -> Weights:
    """Layers that share the states of others have weights for states of their own, which nothing uses."""
    prefix = "model.language_model.layers"
    unused = {
        f"{prefix}.{layer}.self_attn.{name}.weight": torch.randn_like(
            weights[f"{prefix}.{layer - 2}.self_attn.{name}.weight"]
        )
        for layer in (3, 4)
        for name in ("k_proj", "v_proj", "k_norm")
    }
    return weights | unused


@pytest.mark.parametrize(("family", "layout"), [("gemma3", _gemma3_layout), ("gemma4", _gemma4_layout)])
def test_a_checkpoint_as_released_loads(family: str, layout: Callable[[Weights], Weights], tmp_path: Path) -> None:
    model, processor = build(family)
    for config in (model.config, model.config.text_config):
        config.tie_word_embeddings = True
    model.lm_head.weight = model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in weights
    save_file(layout(weights), tmp_path / "model.safetensors", metadata={"format": "pt"})
    engine: Any = load_engine(EngineConfig(str(tmp_path), device="cpu"))
    expected = TransformersEngine(prepare(model, processor, FAMILIES[family], family), 1, 0)
    assert_alike(engine.generate([REQUEST]), expected.generate([REQUEST]))
