"""Qwen3-VL, dense and mixture of experts: pictures also add to the first decoder layers (deepstack)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, Forward, ImageInputs, concatenate
from dualfocus_eval.families.conventions import BBOX_2D_1000
from dualfocus_eval.families.qwen_vl import encoded_size, grid, positions, training_template

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "QWEN3_VL", "QWEN3_VL_MOE"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    """(tokens, hidden * (1 + layers)): the encoder's output, and what is added after each of the first layers."""
    import torch

    tensors = concatenate(inputs)
    outputs = model.get_image_features(
        pixel_values=tensors["pixel_values"], image_grid_thw=tensors["image_grid_thw"], return_dict=True
    )
    return [torch.cat(parts, dim=-1) for parts in zip(outputs.pooler_output, *outputs.deepstack_features, strict=True)]


def _forward(model: Any, step: Forward) -> torch.Tensor:
    import torch

    arguments = step.arguments()
    keep = arguments.pop("logits_to_keep")
    if step.deep is not None:
        # Everywhere but in the pictures zeros are added, so that every token may count as visual.
        hidden = step.embeds.shape[-1]
        layers = torch.split(step.deep.flatten(0, 1), hidden, dim=-1)  # (rows * length, hidden) each
        arguments["visual_pos_masks"] = torch.ones(step.embeds.shape[:2], dtype=torch.bool, device=step.embeds.device)
        arguments["deepstack_visual_embeds"] = list(layers)
    hidden_states = model.model.language_model(**arguments).last_hidden_state
    return model.lm_head(hidden_states[:, -keep:])  # type: ignore[no-any-return]


def _family(model_type: str, example: str) -> Family:
    return Family(
        model_type=model_type,
        box_convention=BBOX_2D_1000,
        encode=_encode,
        encoded_size=encoded_size,
        grid=grid,
        positions=positions,
        forward=_forward,
        pixel_limits=True,
        vision_tower="model.visual",
        connector="model.visual.merger",
        further_connectors=("model.visual.deepstack_merger_list",),
        training_template=training_template(),
        title="Qwen3-VL",
        example=example,
    )


QWEN3_VL = _family("qwen3_vl", "Qwen/Qwen3-VL-8B-Instruct")
QWEN3_VL_MOE = _family("qwen3_vl_moe", "Qwen/Qwen3-VL-30B-A3B-Instruct")

FAMILIES = (QWEN3_VL, QWEN3_VL_MOE)
