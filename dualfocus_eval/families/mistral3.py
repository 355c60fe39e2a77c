"""Mistral Small 3.1 and 3.2, Ministral 3: a picture of any size is a grid of patches with a marker after every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.base import Family, ImageInputs
from dualfocus_eval.families.conventions import BBOX_2D_1000

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "MISTRAL3"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    # One by one: the vision encoder joins the pictures of a call in one sequence, and the memory for its mask grows with
    # the square of its length. Two of 1540 pixels a side are 24,200 patches.
    return [model.get_image_features(**item.tensors).pooler_output[0] for item in inputs]


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["image_sizes"][0].tolist()
    return width, height


MISTRAL3 = Family(
    model_type="mistral3",
    title="Mistral Small 3.1",
    example="mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    box_convention=BBOX_2D_1000,
    trained_boxes=False,
    encode=_encode,
    encoded_size=_encoded_size,
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
