"""LLaVA-NeXT: a picture is a thumbnail and a grid of tiles, packed with a newline embedding after every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, tile_size
from dualfocus_eval.families.conventions import UNIT_BOX
from dualfocus_eval.families.grids import ImageGrid
from dualfocus_eval.families.llava import OLDER_NAMES, processor_values

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "LLAVA_NEXT"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    import torch

    # Pictures have different numbers of tiles. Joined as one list of tiles none is padded to the longest, so that a
    # picture's features do not depend on its neighbours.
    pixels = torch.cat([item.tensors["pixel_values"].flatten(0, 1) for item in inputs])  # (tiles, channels, side, side)
    sizes = torch.cat([item.tensors["image_sizes"] for item in inputs])  # (images, 2)
    return list(model.get_image_features(pixel_values=pixels, image_sizes=sizes).pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["image_sizes"][0].tolist()
    return width, height


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    # The thumbnail's tokens come first.
    seen, patch = tile_size(inputs, processor), processor.patch_size
    class_tokens = 0 if processor.vision_feature_select_strategy == "default" else 1
    return ImageGrid(seen[1] // patch, seen[0] // patch, seen, first=class_tokens)


LLAVA_NEXT = Family(
    model_type="llava_next",
    title="LLaVA-NeXT",
    example="llava-hf/llava-v1.6-mistral-7b-hf",
    box_convention=UNIT_BOX,
    encode=_encode,
    encoded_size=_encoded_size,
    grid=_grid,
    older_names=OLDER_NAMES,
    processor_values=processor_values,
)

FAMILIES = (LLAVA_NEXT,)
