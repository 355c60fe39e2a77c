"""Memory of training per device, by formula."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from dualfocus_eval.training.flops import Load
from dualfocus_eval.training.sizes import ModelSize
from dualfocus_eval.training.tuning import TuningStage

__all__ = ["SHARDINGS", "Memory", "Sharding", "activation_bytes", "trainable", "training_memory"]

Sharding = Literal["none", "zero2", "zero3", "fsdp"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)
"""What spreads the states of training over devices: nothing, or what the files in models/accelerate set up."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    parameters: int
    gradients: int
    optimiser: int
    gathered: int
    """Copies of weights in the precision of the computation."""
    activations: int

    @property
    def total(self) -> int:
        """All together; the framework takes some GB beside, and fragments."""
        return sum(int(getattr(self, entry.name)) for entry in fields(self))


def trainable(size: ModelSize, stage: TuningStage) -> int:
    """Parameters with gradients, adapters included."""
    own = sum(size.parameters[part] for part in stage.trained)
    return own + (stage.lora.rank * size.adapted if stage.lora else 0)


def training_memory(size: ModelSize, stage: TuningStage, sharding: Sharding, devices: int, longest: Load) -> Memory:
    """What a device holds at the peak, where ``longest`` is a sample of the longest batch.

    Without sharding and under FSDP weights, gradients and Adam's two moments are float32, but for the frozen weights
    under LoRA in bf16, which without sharding take 2 bytes. DeepSpeed's ZeRO in bf16 has 2 bytes for weights and
    gradients and 12 for the float32 copy and the moments (Rajbhandari et al., 2020, ZeRO, section 3.1). ZeRO-2 shards
    gradients and moments, ZeRO-3 and FSDP the weights as well, and gather them one unit after the other.
    """
    moved = trainable(size, stage)
    every = sum(size.parameters.values()) + (stage.lora.rank * size.adapted if stage.lora else 0)
    half = stage.precision == "bf16"
    compute = 2 if half else 4
    activations = activation_bytes(size, stage, longest) * stage.micro_batch_size
    if sharding == "none":
        # Autocast keeps a copy of every weight that is trained until the forward pass is over.
        held = 4 * moved + (2 if half and stage.lora else 4) * (every - moved)
        return Memory(held, 4 * moved, 8 * moved, 2 * moved if half else 0, activations)
    if sharding == "zero2":
        optimiser = (12 if half else 8) * moved
        return Memory(compute * every, compute * moved // devices, optimiser // devices, 0, activations)
    # The unit at work and the next one, and the gradients of the one at work.
    gathered = 3 * compute * size.largest_unit
    held, optimiser = (compute, 12 if half else 8) if sharding == "zero3" else (4, 8)
    return Memory(held * every // devices, held * moved // devices, optimiser * moved // devices, gathered, activations)


def activation_bytes(size: ModelSize, stage: TuningStage, load: Load) -> int:
    """What is kept of one sample for the backward pass, at its peak.

    After Korthikanti et al. (2022, Reducing Activation Recomputation in Large Transformer Models, section 4), for
    decoders with a gated MLP and attention that keeps no scores. With gradient checkpointing every layer keeps its
    input, and one layer at a time the rest, when the logits are gone. The output layer's logits and their gradient take
    the precision of the computation, and the targets' three more in float32. Within a factor of 1.5 of what torch keeps
    (tests/training/test_memory.py).
    """
    compute = 2 if stage.precision == "bf16" else 4
    text = size.text
    layer = _layer_bytes(text.width, text.queries, text.keys, text.mlp, compute)
    logits = (2 * compute * load.predicted(stage.micro_batch_size) + 12 * load.targets) * size.vocabulary
    if stage.gradient_checkpointing:
        total = load.tokens * text.layers * 4 * text.width + max(load.tokens * layer, logits)
    else:
        total = load.tokens * text.layers * layer + logits
    if "vision_tower" in stage.trained and load.images:
        vision = size.vision
        patches = load.image_tokens * size.merged + load.images * size.class_tokens
        layer = _layer_bytes(vision.width, vision.queries, vision.keys, vision.mlp, compute)
        total += patches * (vision.layers * (4 * vision.width if stage.gradient_checkpointing else layer))
    return total


def _layer_bytes(width: int, queries: int, keys: int, mlp: int, compute: int) -> int:
    """Of one position in one layer.

    In float32, the two norms' inputs and normalised inputs (16 per unit of width); in the precision of the computation
    the linear layers' inputs, of which autocast makes one copy each, queries, keys, values and attention's output, and
    four tensors of the gated MLP.
    """
    inputs = 5 if compute == 2 else 2
    return 16 * width + compute * (inputs * width + 2 * queries + 2 * keys + 4 * mlp)
