"""LLaVA-1.5 and checkpoints of its architecture, DualFocus's own among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, ImageInputs, concatenate
from dualfocus_eval.families.conventions import UNIT_BOX

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "LLAVA", "OLDER_NAMES", "processor_values"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    pixels = concatenate(inputs)["pixel_values"]  # (images, channels, height, width)
    return list(model.get_image_features(pixel_values=pixels).pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height


def processor_values(config: Any) -> Mapping[str, Any]:
    """What LLaVA's processors count a picture's tokens by; also LLaVA-NeXT's."""
    vision = config.vision_config
    # Of the vision encoders in use, CLIP puts one class token before the patches and SigLIP none.
    additional = {"clip_vision_model": 1, "siglip_vision_model": 0}
    return {
        "patch_size": getattr(vision, "patch_size", None),
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": additional.get(vision.model_type),
    }


OLDER_NAMES: tuple[Mapping[str, str], ...] = (
    {  # transformers before 4.52
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    },
    {  # transformers from 4.52 to 4.57
        **{name: name for name in ("model.language_model.", "lm_head.", "model.multi_modal_projector.")},
        "model.vision_tower.": "model.vision_tower.vision_model.",
    },
    {"model.language_model.": "model.", "lm_head.": "lm_head."},  # the language model alone
)
"""See `Family.older_names`; also LLaVA-NeXT's."""


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
    title="LLaVA-1.5",
    example="llava-hf/llava-1.5-7b-hf",
    box_convention=UNIT_BOX,
    encode=_encode,
    encoded_size=_encoded_size,
    older_names=OLDER_NAMES,
    processor_values=processor_values,
    pads_to_square=True,
    training_template=_TRAINING_TEMPLATE,
)

FAMILIES = (LLAVA,)
