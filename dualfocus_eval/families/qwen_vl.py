"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, rotary positions with a time, a row and a column axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, Forward, ImageInputs, concatenate
from dualfocus_eval.families.conventions import BBOX_2D_1000, QWEN2_5_VL_BOX, QWEN2_VL_BOX, Convention

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "QWEN2_5_VL", "QWEN2_VL", "QWEN3_VL"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    tensors = concatenate(inputs)
    outputs = model.get_image_features(
        pixel_values=tensors["pixel_values"],  # (patches, patch values)
        image_grid_thw=tensors["image_grid_thw"],  # (images, 3)
    )
    return list(outputs.pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    _, rows, columns = inputs.tensors["image_grid_thw"][0].tolist()
    side = processor.image_processor.patch_size
    return columns * side, rows * side


def _positions(
    model: Any, length: int, spans: Sequence[tuple[int, int]], inputs: Sequence[ImageInputs]
) -> torch.Tensor:
    import torch

    # Only `generate` recomputes the offset between positions and lengths; a plain forward over a filled cache would
    # use the previous conversation's. So positions are always computed for the whole conversation and passed on.
    kinds = torch.zeros(1, length, dtype=torch.int)
    for start, end in spans:
        kinds[0, start:end] = 1
    grids = torch.cat([item.tensors["image_grid_thw"] for item in inputs]).cpu() if inputs else None
    positions, _ = model.model.get_rope_index(torch.zeros(1, length, dtype=torch.long), kinds, image_grid_thw=grids)
    return positions[:, 0]  # type: ignore[no-any-return]  # (3, length)


# The template of Qwen's checkpoints, with markers.
_TRAINING_TEMPLATE = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if content is string %}{% set content = [{'type': 'text', 'text': content}] %}{% endif %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in content %}{{ part['text'] }}{% endfor %}<|im_end|>{% endgeneration %}{{ '\n' }}"
    "{% else %}{% for part in content %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


_OLDER_NAMES = (
    {"model.language_model.": "model.", "model.visual.": "visual.", "lm_head.": "lm_head."},  # transformers before 4.52
    {"model.language_model.": "model.", "lm_head.": "lm_head."},  # the language model alone
)


def _family(model_type: str, box_convention: Convention) -> Family:
    return Family(
        model_type=model_type,
        box_convention=box_convention,
        encode=_encode,
        encoded_size=_encoded_size,
        positions=_positions,
        pixel_limits=True,
        vision_tower="model.visual",
        connector="model.visual.merger",
        older_names=_OLDER_NAMES,
        training_template=_TRAINING_TEMPLATE,
    )


QWEN2_VL = _family("qwen2_vl", QWEN2_VL_BOX)
QWEN2_5_VL = _family("qwen2_5_vl", QWEN2_5_VL_BOX)


def _encode_deep(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    """(tokens, hidden * (1 + layers)): the encoder's output, and what is added after each of the first layers."""
    import torch

    tensors = concatenate(inputs)
    outputs = model.get_image_features(
        pixel_values=tensors["pixel_values"], image_grid_thw=tensors["image_grid_thw"], return_dict=True
    )
    return [torch.cat(parts, dim=-1) for parts in zip(outputs.pooler_output, *outputs.deepstack_features, strict=True)]


def _forward_deep(model: Any, step: Forward) -> torch.Tensor:
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


QWEN3_VL = replace(_family("qwen3_vl", BBOX_2D_1000), encode=_encode_deep, forward=_forward_deep)

FAMILIES = (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)
