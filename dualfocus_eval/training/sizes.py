"""How large a model is, read off its configuration on the meta device: no weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from dualfocus_eval.families import family_for
from dualfocus_eval.training.parts import part_of
from dualfocus_eval.training.tuning import Part

__all__ = ["ModelSize", "model_size"]


@dataclass(frozen=True)
class Attention:
    """A stack of transformer layers, as far as its cost depends on the sequence."""

    layers: int
    width: int
    """Of the states between layers."""
    queries: int
    """Heads times their width."""
    keys: int
    mlp: int
    window: int = 0
    """Positions that attend to each other in layers with windows; 0 where there are none."""
    windowed: int = 0
    """Layers that have windows."""

    def pairs(self, length: int) -> int:
        """Query-key pairs over all layers for a sequence; causal ones count in full, as torch's counter counts them."""
        within = min(self.window, length) if self.windowed else length
        return (self.layers - self.windowed) * length * length + self.windowed * length * within


@dataclass(frozen=True)
class ModelSize:
    """Counts of a vision-language model."""

    parameters: dict[Part, int]
    matrices: dict[Part, int]
    """Entries of the weights that every position is multiplied with: not embeddings and norms, and not ``head``."""
    head: int
    """Entries of the output layer's."""
    first_of_connector: int
    """Entries of the matrix that the connector begins with, whose input needs no gradient where the vision tower is
    frozen; 0 where it begins with a norm, which needs one."""
    adapted: int
    """Inputs and outputs of the language model's linear layers, which LoRA adds its rank times that many weights to."""
    largest_unit: int
    """Parameters of the largest layer or embedding, which sharded training gathers as a whole."""
    vocabulary: int
    text: Attention
    vision: Attention
    merged: int
    """Patches to an image token."""
    class_tokens: int
    """Positions of the vision tower beside an image's patches."""


def model_size(config: Any) -> ModelSize:
    """The sizes of the architecture that ``config`` describes. Raises ``CheckpointError`` for an unknown one."""
    family = family_for(config.model_type, "the base")
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    parameters: dict[Part, int] = {"vision_tower": 0, "connector": 0, "language_model": 0}
    matrices = dict(parameters)
    for name, weight in model.named_parameters():
        parameters[part_of(name, family)] += weight.numel()
    head = model.get_output_embeddings().weight.numel()
    adapted = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) or module is model.get_output_embeddings():
            continue
        part = part_of(name, family)
        matrices[part] += module.weight.numel()
        if part == "language_model":
            adapted += sum(module.weight.shape)
    begin = next(weight for name, weight in model.named_parameters() if part_of(name, family) == "connector")
    return ModelSize(
        parameters=parameters,
        matrices=matrices,
        head=head,
        first_of_connector=begin.numel() if begin.dim() > 1 else 0,
        adapted=adapted,
        largest_unit=max(head, *_layer_sizes(model)),
        vocabulary=config.get_text_config().vocab_size,
        text=_text(config.get_text_config()),
        vision=_vision(config.vision_config),
        merged=getattr(config.vision_config, "spatial_merge_size", 1) ** 2,
        class_tokens=1 if config.model_type == "llava" else 0,
    )


def _layer_sizes(model: nn.Module) -> Iterable[int]:
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield sum(weight.numel() for weight in module[0].parameters())


def _text(config: Any) -> Attention:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Attention(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        queries=head * config.num_attention_heads,
        keys=head * config.num_key_value_heads,
        mlp=config.intermediate_size,
    )


def _vision(config: Any) -> Attention:
    width = getattr(config, "embed_dim", None) or config.hidden_size  # Qwen2-VL's hidden_size is the language model's
    layers = getattr(config, "depth", None) or config.num_hidden_layers
    full = getattr(config, "fullatt_block_indexes", None)
    mlp = getattr(config, "intermediate_size", None) or int(width * config.mlp_ratio)
    return Attention(
        layers=layers,
        width=width,
        queries=width,
        keys=width,
        mlp=mlp,
        window=(config.window_size // config.patch_size) ** 2 if full is not None else 0,
        windowed=layers - len(full) if full is not None else 0,
    )
