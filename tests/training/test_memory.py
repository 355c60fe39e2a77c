"""The estimate of training's memory against the tensors of a real model in training."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dualfocus_eval.families import family_for
from dualfocus_eval.training.flops import Load
from dualfocus_eval.training.memory import activation_bytes, trainable, training_memory
from dualfocus_eval.training.parts import prepare_training
from dualfocus_eval.training.sizes import model_size
from dualfocus_eval.training.tuning import Lora, Part, TuningStage
from measurements.random_models import build
from tests.training.test_flops import inputs, stage


def in_training(settings: TuningStage, architecture: str = "llava") -> tuple[Any, Any, Any]:
    model, processor = build(architecture)
    size = model_size(model.config)
    return prepare_training(model, family_for(model.config.model_type, ""), settings).train(), processor, size


def storages(values: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class Live(TorchDispatchMode):
    """Bytes of the tensors that operations have made and that are still held, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(storage) for storage in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in storages(result):
            if id(storage) not in given and storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def free(self, count: int) -> None:
        self.now -= count


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
@pytest.mark.parametrize("freeze", [("vision_tower",), ()])
def test_adapters_are_counted_as_they_are_made(architecture: str, freeze: tuple[Part, ...]) -> None:
    settings = stage(freeze, lora=Lora(4, 8.0))
    model, _, size = in_training(settings, architecture)
    assert trainable(size, settings) == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_within_a_factor_of_one_and_a_half(checkpointing: bool, precision: str) -> None:
    settings = stage(gradient_checkpointing=checkpointing, precision=precision)
    model, processor, size = in_training(settings)
    batch, load = inputs(processor, images=2)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(**batch, use_cache=False).logits[0]
            loss = torch.nn.functional.cross_entropy(logits.float(), batch["input_ids"][0], reduction="sum")
        loss.backward()

    step()  # so that the gradients are there
    with Live() as tensors:
        step()
    measured = tensors.peak
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
