"""InternVL 3 and 3.5 in transformers' own layout: a picture is one tile, or a grid of them and a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, ImageInputs, tile_size
from dualfocus_eval.families.conventions import INTERNVL_BOX
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "INTERNVL"]


def _encode(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    import torch

    tiles = [item.tensors["pixel_values"] for item in inputs]  # (tiles, channels, side, side) each
    features = model.get_image_features(pixel_values=torch.cat(tiles)).pooler_output  # (tiles, tokens, hidden)
    return [part.flatten(0, 1) for part in features.split([len(item) for item in tiles])]


def _grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    # The thumbnail's tokens come last.
    tokens = processor.image_seq_length
    return ImageGrid.square(tokens, tile_size(inputs, processor), first=inputs.tokens - tokens)


INTERNVL = Family(
    model_type="internvl",
    title="InternVL 3 and 3.5",
    example="OpenGVLab/InternVL3_5-8B-HF",
    box_convention=INTERNVL_BOX,
    encode=_encode,
    encoded_size=tile_size,
    grid=_grid,
    older_names=({"model.language_model.": "model.", "lm_head.": "lm_head."},),  # the language model alone
)

FAMILIES = (INTERNVL,)
