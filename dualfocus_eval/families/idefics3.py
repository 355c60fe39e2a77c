"""Idefics3, and SmolVLM which shares its design: tiles with markers of their row and column, and a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, tile_size
from dualfocus_eval.families.conventions import BBOX_2D_1000
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "IDEFICS3", "SMOLVLM"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    import torch

    # Each tile as a picture of its own: so none is padded to the picture with the most tiles.
    tensors = {
        name: torch.cat([item.tensors[name].flatten(0, 1) for item in inputs]).unsqueeze(1)  # (tiles, 1, ...)
        for name in inputs[0].tensors
    }
    tiles = model.get_image_features(**tensors).pooler_output  # (tokens, hidden) each
    ends = torch.tensor([item.tensors["pixel_values"].shape[1] for item in inputs]).cumsum(0).tolist()
    return [torch.cat(tiles[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    # The thumbnail's tokens come last.
    tokens = processor.image_seq_len
    return ImageGrid.square(tokens, tile_size(inputs, processor), first=inputs.tokens - tokens)


def _family(model_type: str, title: str, example: str) -> Family:
    return Family(
        model_type=model_type,
        title=title,
        example=example,
        box_convention=BBOX_2D_1000,
        trained_boxes=False,
        encode=_encode,
        encoded_size=tile_size,
        grid=_grid,
        vision_tower="model.vision_model",
        connector="model.connector",
        language_model="model.text_model",
        older_names=({"model.text_model.": "model.", "lm_head.": "lm_head."},),  # the language model alone
    )


IDEFICS3 = _family("idefics3", "Idefics3", "HuggingFaceM4/Idefics3-8B-Llama3")
SMOLVLM = _family("smolvlm", "SmolVLM2", "HuggingFaceTB/SmolVLM2-2.2B-Instruct")

FAMILIES = (IDEFICS3, SMOLVLM)
