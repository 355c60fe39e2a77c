"""LLaVA-OneVision: a picture alone is a thumbnail and a grid of tiles; of several pictures each is one square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, tile_size
from dualfocus_eval.families.conventions import BBOX_2D_1000
from dualfocus_eval.families.grids import ImageGrid
from dualfocus_eval.families.llava import OLDER_NAMES

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "LLAVA_ONEVISION"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    tiled = [item.tensors["batch_num_images"].eq(1).item() for item in inputs]
    alone = iter(_features(model, [item for item, grid in zip(inputs, tiled, strict=True) if grid]))
    several = iter(_features(model, [item for item, grid in zip(inputs, tiled, strict=True) if not grid]))
    return [next(alone if grid else several) for grid in tiled]


def _features(model: Any, inputs: Sequence[ImageInputs]) -> Sequence[torch.Tensor]:
    """Of pictures that are all tiled, or none."""
    import torch

    if not inputs:
        return []
    # Joined as one list of tiles, as for LLaVA-NeXT. The counts say of each picture whether it is tiled; where none is,
    # they add up to more pictures than there are, of which the model takes no notice.
    return model.get_image_features(  # type: ignore[no-any-return]
        pixel_values=torch.cat([item.tensors["pixel_values"].flatten(0, 1) for item in inputs]),
        image_sizes=torch.cat([item.tensors["image_sizes"] for item in inputs]),  # (images, 2)
        batch_num_images=torch.cat([item.tensors["batch_num_images"] for item in inputs]),
    ).pooler_output


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["image_sizes"][0].tolist()
    return width, height


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    # The thumbnail's tokens come first.
    return ImageGrid.square(processor.num_image_tokens, tile_size(inputs, processor))


LLAVA_ONEVISION = Family(
    model_type="llava_onevision",
    title="LLaVA-OneVision",
    example="llava-hf/llava-onevision-qwen2-7b-ov-hf",
    box_convention=BBOX_2D_1000,
    trained_boxes=False,
    encode=_encode,
    encoded_size=_encoded_size,
    grid=_grid,
    tiles_by_count=True,
    older_names=OLDER_NAMES,
)

FAMILIES = (LLAVA_ONEVISION,)
