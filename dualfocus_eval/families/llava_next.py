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


_PATCH = "patch"
"""The tensor, (1, channels, side, side), of a picture that is one more local patch of the one before it."""


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    is_patch = [_PATCH in item.tensors for item in inputs]
    whole = iter(_features(model, [item for item, patch in zip(inputs, is_patch, strict=True) if not patch]))
    patches = iter(_patch_features(model, [item for item, patch in zip(inputs, is_patch, strict=True) if patch]))
    return [next(patches if patch else whole) for patch in is_patch]


def _features(model: Any, inputs: Sequence[ImageInputs]) -> Sequence[torch.Tensor]:
    import torch

    if not inputs:
        return []
    # Pictures have different numbers of tiles. Joined as one list of tiles none is padded to the longest, so that a
    # picture's features do not depend on its neighbours.
    pixels = torch.cat([item.tensors["pixel_values"].flatten(0, 1) for item in inputs])  # (tiles, channels, side, side)
    sizes = torch.cat([item.tensors["image_sizes"] for item in inputs])  # (images, 2)
    return model.get_image_features(pixel_values=pixels, image_sizes=sizes).pooler_output  # type: ignore[no-any-return]


def _patch_features(model: Any, inputs: Sequence[ImageInputs]) -> Sequence[torch.Tensor]:
    """As the model encodes a tile of a grid of one: the newline embedding stands after each of its rows."""
    import torch

    if not inputs:
        return []
    config, parts = model.config, model.model
    states = parts.vision_tower(torch.cat([item.tensors[_PATCH] for item in inputs]), output_hidden_states=True)
    layers = config.vision_feature_layer
    chosen = [states.hidden_states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    hidden = torch.cat(chosen, dim=-1)  # (patches, tokens, channels)
    if config.vision_feature_select_strategy == "default":
        hidden = hidden[:, 1:]
    features = parts.multi_modal_projector(hidden)
    side = config.vision_config.image_size // config.vision_config.patch_size
    rows = features.unflatten(1, (side, side))  # (patches, rows, columns, hidden)
    newlines = parts.image_newline.to(rows).expand(*rows.shape[:2], 1, -1)
    return list(torch.cat([rows, newlines], dim=2).flatten(1, 2))


def _local_patch(inputs: ImageInputs, processor: Any) -> ImageInputs:
    """The picture's thumbnail, its first tile, with as many tokens as `_patch_features` gives it."""
    thumbnail = inputs.tensors["pixel_values"][0, :1]
    rows, columns = (length // processor.patch_size for length in thumbnail.shape[-2:])
    return ImageInputs({_PATCH: thumbnail}, (inputs.token_id,) * (rows * (columns + 1)), inputs.token_id)


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
    local_patch=_local_patch,
)

FAMILIES = (LLAVA_NEXT,)
