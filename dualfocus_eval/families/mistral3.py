"""Mistral Small 3.1 and 3.2, Ministral 3: a picture of any size is a grid of patches with a marker after every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, concatenate
from dualfocus_eval.families.conventions import BBOX_2D_1000
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "MISTRAL3"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    # One by one: the vision encoder joins the pictures of a call in one sequence, and the memory for its mask grows
    # with the square of its length. A picture of 1540 pixels a side has 12,100 patches.
    return [_features(model, item) for item in inputs]


def _features(model: Any, item: ImageInputs) -> torch.Tensor:
    # Of a call with one token in all, the model drops the dimension of the tokens and fails. So a copy goes with it.
    tensors = concatenate([item] * (2 if item.tokens == 1 else 1))
    features: torch.Tensor = model.get_image_features(**tensors).pooler_output[0]  # (tokens, hidden)
    return features


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["image_sizes"][0].tolist()
    return width, height


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    seen, side = _encoded_size(inputs, processor), processor.patch_size * processor.spatial_merge_size
    return ImageGrid(seen[1] // side, seen[0] // side, seen)


MISTRAL3 = Family(
    model_type="mistral3",
    title="Mistral Small 3.1",
    example="mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    box_convention=BBOX_2D_1000,
    trained_boxes=False,
    encode=_encode,
    encoded_size=_encoded_size,
    grid=_grid,
    older_names=(
        {  # transformers before 4.52
            "model.language_model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
            "model.vision_tower.": "vision_tower.",
            "model.multi_modal_projector.": "multi_modal_projector.",
        },
        {"model.language_model.": "model.", "lm_head.": "lm_head."},  # the language model alone
    ),
)

FAMILIES = (MISTRAL3,)
