"""The formula of training's operations against torch's own count on real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dualfocus_eval.families import family_for
from dualfocus_eval.training.flops import Load, training_flops
from dualfocus_eval.training.parts import prepare_training
from dualfocus_eval.training.sizes import ModelSize, model_size
from dualfocus_eval.training.tuning import Lora, Part, Source, TuningStage
from measurements.random_models import build


def stage(freeze: tuple[Part, ...] = ("vision_tower",), **values: Any) -> TuningStage:
    plain = {"gradient_checkpointing": False, "precision": "fp32"}
    return TuningStage(
        "s", "instructions", (Source("x.json"),), batch_size=1, learning_rate=0.001, freeze=freeze, **(plain | values)
    )


def prepared(architecture: str, settings: TuningStage) -> tuple[Any, Any, ModelSize]:
    """The model as it is trained, its processor and its size; attention in matrix products that torch counts."""
    model, processor = build(architecture)
    model.set_attn_implementation("eager")
    size = model_size(model.config)
    return prepare_training(model, family_for(model.config.model_type, ""), settings).train(), processor, size


def inputs(processor: Any, images: int) -> tuple[Any, Load]:
    text = "USER: " + f"{processor.image_token}\nwhat " * images + "is there a red cup on the left " * 12
    pictures = [Image.new("RGB", (48, 32)) for _ in range(images)] or None
    batch = processor(text=text, images=pictures, return_tensors="pt")
    tokens = batch["input_ids"].shape[1]
    return batch, Load(tokens, images, int((batch["input_ids"] == processor.image_token_id).sum()), targets=tokens)


STAGES = {
    "connector and language model": stage(),
    "all": stage(freeze=()),
    "connector": stage(freeze=("vision_tower", "language_model")),
    "language model": stage(freeze=("vision_tower", "connector")),
    "adapters": stage(lora=Lora(8, 16.0)),
    "adapters, nothing frozen": stage(freeze=(), lora=Lora(8, 16.0)),
    "recomputed": stage(gradient_checkpointing=True),
    "adapters, recomputed": stage(lora=Lora(8, 16.0), gradient_checkpointing=True),
}


@pytest.mark.parametrize("settings", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl"])
def test_the_formula_counts_what_torch_counts(architecture: str, settings: TuningStage) -> None:
    model, processor, size = prepared(architecture, settings)
    batch, load = inputs(processor, images=2)
    with FlopCounterMode(display=False) as forward:
        logits = model(**batch, use_cache=False).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    flops = training_flops(size, settings, load)
    # Trained embeddings and adapters in the first layer know no gradient of an input that has none: up to 2%.
    assert flops.forward == pytest.approx(forward.get_total_flops(), rel=1e-3)
    assert flops.total == pytest.approx(forward.get_total_flops() + backward.get_total_flops(), rel=0.02)


def test_a_frozen_vision_tower_costs_one_forward_pass() -> None:
    size = model_size(build("llava")[0].config)
    load = Load(tokens=100, images=2, image_tokens=32, targets=10)
    with_images, without = (
        training_flops(size, stage(freeze=("vision_tower", "connector"), gradient_checkpointing=True), entry)
        for entry in (load, Load(100, 0, 0, 10))
    )
    assert with_images.backward == without.backward
    assert with_images.recomputed == without.recomputed
    assert with_images.forward > without.forward


def test_the_output_layer_runs_where_there_are_targets() -> None:
    model, processor, size = prepared("llava", stage())
    batch, load = inputs(processor, images=1)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(**batch, use_cache=False, logits_to_keep=torch.tensor([3, 5, 8]))
    found = training_flops(size, stage(), Load(load.tokens, 1, load.image_tokens, targets=3))
    assert found.forward == pytest.approx(counted.get_total_flops(), rel=1e-3)
