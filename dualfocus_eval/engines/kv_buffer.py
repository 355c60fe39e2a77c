"""A preallocated key/value cache for a batch of rows that share their slots.

Every row uses the same slots, so that a step appends for all rows at once:

    [ cached prefix, right-aligned | prompt suffix, right-aligned | generated tokens ]

What lies before a row's own tokens in the first two parts is masked. Slots say what a token may attend to; where a
token stands in its text is told by position ids, which are independent of slots.

Layers with a sliding window keep all their states too, which their masks cut to the window. That costs memory, but the
states can be cut and reused at any token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from dualfocus_eval.engines.prefix_cache import Segment

__all__ = ["KeyValueBuffer"]

HEADROOM = 64
"""Slots beyond the prompt to begin with."""
GROWTH = 256
"""Slots by which a full buffer grows."""


class _BufferLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, (rows, heads, capacity, head_dim) each, of which ``length`` slots are filled."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        # Zeros, not garbage: a masked slot has weight zero, but zero times NaN is NaN.
        rows, heads, _, _ = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, self.capacity, key_states.shape[-1])
        self.values = value_states.new_zeros(rows, heads, self.capacity, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new, head_dim) states; returns views of all filled slots."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        end = self.length + key_states.shape[-2]
        if end > self.capacity:
            more = max(GROWTH, end - self.capacity)
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, more))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more))
            self.capacity += more
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


class KeyValueBuffer(Cache):  # type: ignore[misc]
    """The cache of one batch, with the mask of its slots.

    ``prefixes`` names each row's cached beginning (None without); their states are copied in. ``suffixes`` are the
    numbers of prompt tokens that each row is about to prefill.
    """

    def __init__(self, layers: int, prefixes: Sequence[Segment | None], suffixes: Sequence[int]) -> None:
        self.prefix_slots = max((prefix.end if prefix else 0) for prefix in prefixes)
        self.suffix_slots = max(suffixes)
        capacity = self.prefix_slots + self.suffix_slots + HEADROOM
        super().__init__(layers=[_BufferLayer(capacity) for _ in range(layers)])
        self.mask = torch.ones(len(prefixes), self.prefix_slots + self.suffix_slots, dtype=torch.bool)
        """Which slots hold a token of the row, (rows, slots)."""
        for row, (prefix, suffix) in enumerate(zip(prefixes, suffixes, strict=True)):
            self.mask[row, : self.prefix_slots - (prefix.end if prefix else 0)] = False
            self.mask[row, self.prefix_slots : self.prefix_slots + self.suffix_slots - suffix] = False
        if self.prefix_slots:
            self._load(prefixes)

    def _load(self, prefixes: Sequence[Segment | None]) -> None:
        sample = next(prefix for prefix in prefixes if prefix is not None)
        for index, layer in enumerate(self.layers):
            keys, values = sample.layers[index]
            rows = len(prefixes)
            layer.lazy_initialization(keys.expand(rows, *keys.shape), values.expand(rows, *values.shape))
            layer.length = self.prefix_slots
            for row, prefix in enumerate(prefixes):
                if prefix is None:
                    continue
                shift = self.prefix_slots - prefix.end
                for segment in prefix.chain():
                    slots = slice(shift + segment.start, shift + segment.end)
                    layer.keys[row, :, slots], layer.values[row, :, slots] = segment.layers[index]

    def extend_mask(self, tokens: int = 1) -> torch.Tensor:
        """The mask with ``tokens`` more slots that every row fills."""
        self.mask = torch.nn.functional.pad(self.mask, (0, tokens), value=True)
        return self.mask

    def slice(self, row: int, start: int, end: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Copies of one row's states in slots ``start`` to ``end``, (heads, end - start, head_dim) per layer."""
        return [
            (layer.keys[row, :, start:end].clone(), layer.values[row, :, start:end].clone()) for layer in self.layers
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        chosen = torch.tensor(rows)
        self.mask = self.mask[chosen]
        for layer in self.layers:
            layer.keys = layer.keys[chosen.to(layer.keys.device)]
            layer.values = layer.values[chosen.to(layer.values.device)]
