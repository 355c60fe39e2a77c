"""LLaVA-1.5 and checkpoints of its architecture, DualFocus's own among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, ImageInputs, concatenate

if TYPE_CHECKING:
    import torch

__all__ = ["LLAVA"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    pixels = concatenate(inputs)["pixel_values"]  # (images, channels, height, width)
    return list(model.get_image_features(pixel_values=pixels).pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height


# The template of llava-hf's checkpoints, which leaves out the end tokens that LLaVA-1.5 was trained with. It takes
# plain strings too, which lmms-eval's llava_hf passes for simple tasks.
_TRAINING_TEMPLATE = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if content is string %}{% set content = [{'type': 'text', 'text': content}] %}{% endif %}"
    "{% if message['role'] == 'assistant' %}ASSISTANT:{% generation %}"
    "{% for part in content %}{{ ' ' + part['text'] }}{% endfor %}</s>{% endgeneration %}"
    "{% else %}{{ 'USER: ' if message['role'] == 'user' }}"
    "{% for part in content if part['type'] == 'image' %}<image>{{ '\n' }}{% endfor %}"
    "{% for part in content if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

LLAVA = Family(
    model_type="llava",
    box_convention="unit",
    encode=_encode,
    encoded_size=_encoded_size,
    pads_to_square=True,
    training_template=_TRAINING_TEMPLATE,
)
