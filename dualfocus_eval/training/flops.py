"""Floating-point operations of training, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.training.sizes import ModelSize
from dualfocus_eval.training.tuning import TuningStage

__all__ = ["Load", "training_flops"]


@dataclass(frozen=True)
class Load:
    """What one sample asks of the model."""

    tokens: int
    """Images expanded."""
    images: int
    image_tokens: int
    """Of all its images together."""
    targets: int
    """Tokens that are trained."""

    def predicted(self, samples: int) -> int:
        """Positions at which the output layer runs: wherever one of ``samples`` of this kind has a target, at most."""
        return min(self.tokens, samples * self.targets)


@dataclass(frozen=True)
class Flops:
    """Of one forward and backward pass."""

    forward: int
    backward: int
    recomputed: int
    """A second forward pass through the layers, for gradient checkpointing; torch leaves out what ends a layer."""

    @property
    def total(self) -> int:
        """All that the device computes."""
        return self.forward + self.backward + self.recomputed


def training_flops(size: ModelSize, stage: TuningStage, load: Load) -> Flops:
    """The cost of one sample.

    A position costs 2 operations per matrix entry forward, and backward as much again for the gradients of the inputs
    and of the weights each (Kaplan et al., 2020, Scaling Laws for Neural Language Models, section 2.1); attention costs
    4 operations per query-key pair and unit of width forward, twice that backward (Chowdhery et al., 2022, PaLM,
    appendix B, which halves neither for the causal mask). What is frozen has no gradients of weights, and no
    gradients of inputs where nothing before it is trained. The optimiser's own work is left out.
    """
    vision = _vision_forward(size, load)
    vision_trained = "vision_tower" in stage.trained
    connector = 2 * size.matrices["connector"] * load.image_tokens
    connector_trained = "connector" in stage.trained
    unneeded = 0 if vision_trained else 2 * size.first_of_connector * load.image_tokens
    connector_backward = connector_trained * connector + (
        connector - unneeded if vision_trained or connector_trained else 0
    )
    layers = 2 * size.matrices["language_model"] * load.tokens
    attention = 4 * size.text.queries * size.text.pairs(load.tokens)
    adapters = 2 * stage.lora.rank * size.adapted * load.tokens if stage.lora else 0
    head = 2 * size.head * load.predicted(stage.micro_batch_size)
    full = "language_model" in stage.trained
    reached = full or stage.lora is not None or connector_trained or vision_trained
    language_backward = reached * (layers + head + 2 * attention + 2 * adapters) + full * (layers + head)
    last = 0 if stage.lora else 2 * size.text.layers * size.text.mlp * size.text.width * load.tokens
    return Flops(
        forward=vision + connector + layers + attention + adapters + head,
        backward=vision_trained * 2 * vision + connector_backward + language_backward,
        recomputed=stage.gradient_checkpointing * (layers - last + attention + adapters + vision_trained * vision),
    )


def _vision_forward(size: ModelSize, load: Load) -> int:
    if not load.images:
        return 0
    patches = load.image_tokens * size.merged + load.images * size.class_tokens
    attention = 4 * size.vision.queries * size.vision.pairs(patches // load.images) * load.images
    return 2 * size.matrices["vision_tower"] * patches + attention
