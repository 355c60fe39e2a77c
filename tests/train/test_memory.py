"""The estimate of training's memory against the tensors of a real model in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType

from benchmarks.random_models import build
from dualfocus_eval.families import family_for
from dualfocus_eval.train.flops import Load
from dualfocus_eval.train.memory import activation_bytes, trainable, training_memory
from dualfocus_eval.train.parts import prepare_training
from dualfocus_eval.train.sizes import model_size
from dualfocus_eval.train.tuning import Lora, TuningStage
from tests.train.test_flops import inputs, stage


def in_training(settings: TuningStage, architecture: str = "llava") -> tuple[Any, Any, Any]:
    model, processor = build(architecture)
    size = model_size(model.config)
    return prepare_training(model, family_for(model.config.model_type, ""), settings).train(), processor, size


def test_weights_gradients_and_moments_are_exact() -> None:
    settings = stage()
    model, processor, size = in_training(settings)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
    batch, load = inputs(processor, images=2)
    model(**batch).logits.sum().backward()
    optimiser.step()
    memory = training_memory(size, settings, "none", 1, load)
    assert memory.parameters == sum(weight.nbytes for weight in model.parameters())
    assert memory.gradients == sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
    moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert memory.optimiser == sum(moment.nbytes for moment in moments)


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl"])
def test_adapters_are_counted_as_they_are_made(architecture: str) -> None:
    settings = stage(lora=Lora(4, 8.0))
    model, _, size = in_training(settings, architecture)
    assert trainable(size, settings) == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_within_a_factor_of_one_and_a_half(checkpointing: bool, precision: str) -> None:
    settings = stage(gradient_checkpointing=checkpointing, precision=precision)
    model, processor, size = in_training(settings)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()
    batch, load = inputs(processor, images=2)
    labels = batch["input_ids"][0]
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(**batch, use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        loss.backward()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    measured = peak[_MemRefType.ACT] + peak[_MemRefType.TEMP]
    memory = training_memory(size, settings, "none", 1, load)
    estimate = activation_bytes(size, settings, load) + memory.gathered
    assert measured / 1.5 < estimate < measured * 1.5


def test_sharding_divides_what_it_says() -> None:
    size = model_size(build("llava")[0].config)
    settings = stage(precision="bf16")
    load = Load(tokens=100, images=1, image_tokens=16, targets=10)
    moved, every = trainable(size, settings), sum(size.parameters.values())

    def states(sharding: Any, devices: int) -> int:
        memory = training_memory(size, settings, sharding, devices, load)
        return memory.parameters + memory.gradients + memory.optimiser

    assert states("none", 8) == 4 * every + 12 * moved
    assert states("zero2", 1) == 2 * every + 14 * moved
    assert states("zero2", 4) == pytest.approx(2 * every + 14 * moved / 4, abs=4)
    assert states("zero3", 4) == pytest.approx((2 * every + 14 * moved) / 4, abs=4)
    assert states("fsdp", 4) == pytest.approx((4 * every + 12 * moved) / 4, abs=4)
