"""Qwen2-VL and Qwen2.5-VL: pictures of any size, rotary positions with a time, a row and a column axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, concatenate
from dualfocus_eval.families.conventions import QWEN2_5_VL_BOX, QWEN2_VL_BOX, Convention
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "QWEN2_5_VL", "QWEN2_VL", "encode", "encoded_size", "grid", "positions", "training_template"]


def encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    """See `Family.encode`; for models that take ``image_grid_thw``."""
    tensors = concatenate(inputs)
    outputs = model.get_image_features(
        pixel_values=tensors["pixel_values"],  # (patches, patch values)
        image_grid_thw=tensors["image_grid_thw"],  # (images, 3)
    )
    return list(outputs.pooler_output)


def encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    """See `Family.encoded_size`; from the grid of patches."""
    _, rows, columns = inputs.tensors["image_grid_thw"][0].tolist()
    side = processor.image_processor.patch_size
    return columns * side, rows * side


def grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    """See `Family.grid`; a token is a square of patches."""
    _, rows, columns = inputs.tensors["image_grid_thw"][0].tolist()
    merged = processor.image_processor.merge_size
    return ImageGrid(rows // merged, columns // merged, encoded_size(inputs, processor))


def positions(model: Any, length: int, spans: Sequence[tuple[int, int]], inputs: Sequence[ImageInputs]) -> torch.Tensor:
    """See `Family.positions`; by the model's own ``get_rope_index``."""
    import torch

    # Only `generate` recomputes the offset between positions and lengths; a plain forward over a filled cache would
    # use the previous conversation's. So positions are always computed for the whole conversation and passed on.
    kinds = torch.zeros(1, length, dtype=torch.int)
    for start, end in spans:
        kinds[0, start:end] = 1
    grids = torch.cat([item.tensors["image_grid_thw"] for item in inputs]).cpu() if inputs else None
    found, _ = model.model.get_rope_index(torch.zeros(1, length, dtype=torch.long), kinds, image_grid_thw=grids)
    return found[:, 0]  # type: ignore[no-any-return]  # (3, length)


def training_template(system: str = "") -> str:
    """The template of Qwen's checkpoints, with markers; ``system`` begins a conversation that has no system turn."""
    default = f"<|im_start|>system\n{system}<|im_end|>\n"
    begin = f"{{% if loop.first and message['role'] != 'system' %}}{default}{{% endif %}}" if system else ""
    return (
        "{% for message in messages %}{% set content = message['content'] %}"
        "{% if content is string %}{% set content = [{'type': 'text', 'text': content}] %}{% endif %}"
        f"{begin}<|im_start|>{{{{ message['role'] }}}}\n"
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


def _family(model_type: str, box_convention: Convention, title: str, example: str) -> Family:
    return Family(
        model_type=model_type,
        title=title,
        example=example,
        box_convention=box_convention,
        encode=encode,
        encoded_size=encoded_size,
        grid=grid,
        positions=positions,
        pixel_limits=True,
        vision_tower="model.visual",
        connector="model.visual.merger",
        older_names=_OLDER_NAMES,
        training_template=training_template("You are a helpful assistant."),
    )


QWEN2_VL = _family("qwen2_vl", QWEN2_VL_BOX, "Qwen2-VL", "Qwen/Qwen2-VL-7B-Instruct")
QWEN2_5_VL = _family("qwen2_5_vl", QWEN2_5_VL_BOX, "Qwen2.5-VL", "Qwen/Qwen2.5-VL-7B-Instruct")


FAMILIES = (QWEN2_VL, QWEN2_5_VL)
