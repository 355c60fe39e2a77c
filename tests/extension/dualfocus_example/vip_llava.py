"""Checkpoints of ViP-LLaVA's architecture that were fine-tuned to write boxes in percent of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, ImageInputs, concatenate
from dualfocus_eval.families.conventions import Convention

if TYPE_CHECKING:
    import torch


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    pixels = concatenate(inputs)["pixel_values"]  # (images, channels, height, width)
    return list(model.get_image_features(pixel_values=pixels).pooler_output)  # (tokens, hidden) each


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height


PERCENT_BOX = Convention("percent", "<{}, {}, {}, {}>", scale=100.0, decimals=1, smallest=0.1)

VIP_LLAVA = Family(
    model_type="vipllava",
    box_convention=PERCENT_BOX,
    encode=_encode,
    encoded_size=_encoded_size,
)
