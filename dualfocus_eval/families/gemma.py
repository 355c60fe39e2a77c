"""Gemma 3 and Gemma 4: sliding windows in most layers, and the tokens of an image attend to one another."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.base import Family, Forward, ImageInputs, ThinkingMarkers, concatenate
from dualfocus_eval.families.conventions import BBOX_2D_1000, GEMMA4_BOX
from dualfocus_eval.families.grids import ImageGrid
from dualfocus_eval.families.llava import OLDER_NAMES

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "GEMMA3", "GEMMA4"]


def _encode_crops(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    import torch

    pixels = concatenate(inputs)["pixel_values"]  # (images and their crops, channels, side, side)
    features = model.get_image_features(pixel_values=pixels).pooler_output  # (images and their crops, tokens, hidden)
    crops = [len(item.tensors["pixel_values"]) for item in inputs]  # one without pan and scan
    return [part.flatten(0, 1) for part in torch.split(features, crops)]


def _encoded_square(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height


def _square_grid(inputs: ImageInputs, processor: Any, size: Size) -> ImageGrid:
    # With pan and scan the image's crops come after it.
    return ImageGrid.square(processor.image_seq_length, _encoded_square(inputs, processor))


GEMMA3 = Family(
    model_type="gemma3",
    title="Gemma 3",
    example="google/gemma-3-12b-it",
    box_convention=BBOX_2D_1000,
    trained_boxes=False,
    encode=_encode_crops,
    encoded_size=_encoded_square,
    grid=_square_grid,
    bidirectional_images=lambda text: {"full_attention", "sliding_attention"},
    older_names=OLDER_NAMES,
)


def _encode_patches(model: Any, inputs: Sequence[ImageInputs]) -> list[torch.Tensor]:
    tensors = concatenate(inputs)
    outputs = model.get_image_features(
        pixel_values=tensors["pixel_values"],  # (images, most patches, patch values)
        image_position_ids=tensors["image_position_ids"],  # (images, most patches, 2): column and row; -1 for padding
    )
    return list(outputs.pooler_output)


def _encoded_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    columns, rows = (inputs.tensors["image_position_ids"][0].amax(dim=0) + 1).tolist()
    side = processor.image_processor.patch_size
    return columns * side, rows * side


def _bidirectional_layers(text: Any) -> Set[str]:
    # Of the released checkpoints the larger ones; in the smaller ones an image's tokens are as causal as text.
    return {"sliding_attention"} if text.use_bidirectional_attention == "vision" else set()


def _forward(model: Any, step: Forward) -> torch.Tensor:
    """Every layer also gets an embedding of the token ids, in which padding stands for the tokens of an image."""
    import torch

    arguments = step.arguments()
    config = model.config
    text = config.get_text_config()
    if text.hidden_size_per_layer_input:
        named = (config.image_token_id, config.video_token_id, config.audio_token_id)
        placeholders = torch.tensor([token for token in named if token is not None], device=step.ids.device)
        ids = step.ids.masked_fill(torch.isin(step.ids, placeholders), text.pad_token_id)
        arguments["per_layer_inputs"] = model.model.language_model.get_per_layer_inputs(ids)
    return model(**arguments).logits  # type: ignore[no-any-return]


GEMMA4 = Family(
    model_type="gemma4",
    title="Gemma 4",
    example="google/gemma-4-31B-it",
    box_convention=GEMMA4_BOX,
    encode=_encode_patches,
    encoded_size=_encoded_size,
    forward=_forward,
    bidirectional_images=_bidirectional_layers,
    thinking=ThinkingMarkers("<|channel>thought", "<channel|>"),
    connector="model.embed_vision",
    older_names=({"model.language_model.": "model.", "lm_head.": "lm_head."},),  # the language model alone
)

FAMILIES = (GEMMA3, GEMMA4)
