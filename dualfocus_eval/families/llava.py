"""LLaVA-1.5 and checkpoints of its architecture, DualFocus's own among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Box, Size, from_padded_square
from dualfocus_eval.families.base import Family, ImageInputs, concatenate
from dualfocus_eval.families.conventions import UNIT_BOX
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "LLAVA", "OLDER_NAMES", "processor_values"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    pixels = concatenate(inputs)["pixel_values"]  # (images, channels, height, width)
    return list(model.get_image_features(pixel_values=pixels).pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    seen, patch = _encoded_size(inputs, processor), processor.patch_size
    rows, columns = seen[1] // patch, seen[0] // patch
    # With vision_feature_select_strategy "full" a class token comes before the patches'.
    return ImageGrid(rows, columns, seen, _shown(processor.image_processor, size, seen), inputs.tokens - rows * columns)


def _shown(image_processor: Any, size: Size, seen: Size) -> Box:
    """The part of an image of ``size`` that is seen: padded to a square, resized and cut, in this order if at all."""
    pads = hasattr(image_processor, "pad_to_square") and image_processor.do_pad
    padded = (max(size), max(size)) if pads else size
    width, height = _resized(image_processor, padded)
    left, top = (width - seen[0]) // 2, (height - seen[1]) // 2
    shown = Box(left / width, top / height, (left + seen[0]) / width, (top + seen[1]) / height)
    return from_padded_square(shown, size) if pads else shown


def _resized(image_processor: Any, size: Size) -> Size:
    """What an image of ``size`` is resized to."""
    target = dict(image_processor.size)
    if not image_processor.do_resize:
        return size
    if edge := target.get("shortest_edge"):
        width, height = size
        return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
    return target["width"], target["height"]


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
    grid=_grid,
    older_names=OLDER_NAMES,
    processor_values=processor_values,
    pads_to_square=True,
    training_template=_TRAINING_TEMPLATE,
)

FAMILIES = (LLAVA,)
