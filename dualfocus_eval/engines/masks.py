"""Attention masks for models in which a token attends to less, or to more, than the tokens before it.

A batch's rows have gaps between their tokens (see `kv_buffer`). A window is a number of tokens, so transformers' own
masks, which count slots, are right only where there is no gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.families import Family

__all__ = ["AttentionMasks", "LayerMask", "attention_masks"]

_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
"""Types of layers, as transformers' configurations name them."""


@dataclass(frozen=True)
class LayerMask:
    """What a token attends to in the layers of one type, beside itself."""

    window: int | None = None
    """Of the tokens before it the latest ``window - 1``; None: all."""
    bidirectional_images: bool = False
    """Within the window also the later tokens of its own image."""


@dataclass(frozen=True)
class AttentionMasks:
    """The masks that one model takes."""

    layers: Mapping[str, LayerMask]
    """By type of layer."""
    by_type: bool
    """Whether the model takes a mask for each type of layer, or one for all layers."""
    additive: bool
    """Whether its attention adds masks to the scores instead of choosing by them."""

    def build(self, tokens: torch.Tensor, images: torch.Tensor, dtype: torch.dtype) -> Any:
        """Masks of one pass, (rows, 1, length, slots) each: a tensor, or one for each type of layer.

        ``tokens`` (rows, slots) tells the slots that hold a token of their row; the pass computes the last of them.
        ``images`` (rows, length) tells which of those are an image's. A boundary never lies inside an image, so that
        all tokens of an image are in one pass.
        """
        length, slots = images.shape[1], tokens.shape[1]
        index = tokens.cumsum(dim=1, dtype=torch.int32)  # (rows, slots): tokens of the row up to and with the slot
        query = index[:, -length:, None]  # (rows, length, 1)
        key = index[:, None, :]  # (rows, 1, slots)
        earlier = key <= query  # (rows, length, slots)
        same = _same_image(images, slots) if self._any_bidirectional else None
        # A slot of the padding attends to itself: attention over nothing would be NaN, which spreads to all rows of
        # later layers through products with zero.
        places = torch.arange(slots, device=tokens.device)
        itself = places == places[-length:, None]  # (length, slots)
        masks = {}
        for name, layer in self.layers.items():
            allowed = earlier | same if layer.bidirectional_images and same is not None else earlier
            if layer.window is not None:
                allowed = allowed & (key > query - layer.window)
            masks[name] = self._finished((allowed & tokens[:, None, :] | itself).unsqueeze(1), dtype)
        return masks if self.by_type else next(iter(masks.values()))

    @property
    def _any_bidirectional(self) -> bool:
        return any(layer.bidirectional_images for layer in self.layers.values())

    def _finished(self, allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self.additive:
            return allowed
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed, torch.finfo(dtype).min
        )


def _same_image(images: torch.Tensor, slots: int) -> torch.Tensor:
    """(rows, length, slots): both tokens are of one image, which is a run of image tokens."""
    starts = images & ~torch.nn.functional.pad(images, (1, 0))[:, :-1]
    number = starts.cumsum(dim=1, dtype=torch.int32).masked_fill(~images, 0)  # (rows, length), 0 outside images
    same = (number[:, :, None] == number[:, None, :]) & images[:, :, None]  # (rows, length, length)
    return torch.nn.functional.pad(same, (slots - images.shape[1], 0))


def attention_masks(config: Any, family: Family, name: str) -> AttentionMasks | None:
    """The masks that a model of ``config`` needs, or None where a mask of its tokens alone, (rows, slots), is enough.

    Raises ``UserError`` for an attention kernel that takes no such masks, ``CheckpointError`` for types of layers that
    no mask is known for.
    """
    text = config.get_text_config()
    declared = getattr(text, "layer_types", None)
    window = getattr(text, "sliding_window", None)
    types = set(
        declared or [_SLIDING if window else _CHUNKED if getattr(text, "attention_chunk_size", None) else _FULL]
    )
    images = family.bidirectional_images(text) if family.bidirectional_images is not None else frozenset()
    if not images and types.isdisjoint((_SLIDING, _CHUNKED)):
        return None
    if strange := sorted(types - {_FULL, _SLIDING}):
        raise CheckpointError(f"{name}: its decoder has layers of type {strange[0]}, which is not supported")
    kernel = text._attn_implementation
    if kernel not in ("sdpa", "eager"):
        raise UserError(
            f"attn_implementation={kernel} does not apply to {name}: its layers have sliding windows or bidirectional "
            "images; use sdpa or eager"
        )
    layers = {kind: LayerMask(window if kind == _SLIDING else None, kind in images) for kind in sorted(types)}
    return AttentionMasks(layers, by_type=declared is not None, additive=kernel == "eager")
