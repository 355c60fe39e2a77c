"""What a layer keeps of the tokens of a batch: keys and values in slots, or a recurrent state.

Both kinds give and take a row's states in the same way, so that who holds them need not ask which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin, LinearAttentionLayer

from dualfocus_eval.engines.prefix_cache import Segment, States

__all__ = ["AttentionLayer", "RecurrentLayer"]

GROWTH = 256
"""Slots by which a full layer grows."""


class AttentionLayer(CacheLayerMixin):  # type: ignore[misc]
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

    def restore(self, prefixes: Sequence[Segment | None], index: int, slots: int) -> None:
        """Copy each row's beginning, the states of layer ``index``, to the end of the first ``slots`` slots."""
        sample = next(prefix for prefix in prefixes if prefix is not None)
        keys, values = (state.expand(len(prefixes), *state.shape) for state in sample.layers[index])
        self.lazy_initialization(keys, values)
        self.length = slots
        for row, prefix in enumerate(prefixes):
            if prefix is None:
                continue
            shift = slots - prefix.end
            for segment in prefix.chain():
                place = slice(shift + segment.start, shift + segment.end)
                self.keys[row, :, place], self.values[row, :, place] = segment.layers[index]

    def cut(self, row: int, start: int, end: int) -> States:
        """Copies of one row's keys and values in slots ``start`` to ``end``, (heads, end - start, head_dim) each."""
        return self.keys[row, :, start:end].clone(), self.values[row, :, start:end].clone()

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        chosen = rows.to(self.keys.device)
        self.keys, self.values = self.keys[chosen], self.values[chosen]

    def part(self, rows: slice, width: int, slots: int) -> AttentionLayer:
        """A view of some rows, whose next ``width`` tokens will fill the layer up to ``slots`` slots."""
        part = AttentionLayer(self.capacity)
        part.keys, part.values, part.length = self.keys[rows], self.values[rows], slots - width
        part.is_initialized = True
        self.length = slots
        return part


class RecurrentLayer(LinearAttentionLayer):  # type: ignore[misc]
    """The latest inputs of a convolution, (rows, channels, kernel), and a recurrent state, (rows, heads, ...).

    Both are of all tokens so far: they can be stored between two passes, but not cut.
    """

    def restore(self, prefixes: Sequence[Segment | None], index: int, slots: int) -> None:
        """Copy the state at the end of each row's beginning; zero, the state of no token, where there is none."""
        sample = next(prefix for prefix in prefixes if prefix is not None)
        convolution, recurrent = (state.expand(len(prefixes), *state.shape) for state in sample.layers[index])
        self.lazy_initialization(conv_states=convolution, recurrent_states=recurrent)
        self.has_previous_state[0] = True
        for row, prefix in enumerate(prefixes):
            if prefix is not None:
                self.conv_states[0][row], self.recurrent_states[0][row] = prefix.layers[index]

    def cut(self, row: int, start: int, end: int) -> States:
        """Copies of one row's latest state, which must be that at ``end``."""
        return self.conv_states[0][row].clone(), self.recurrent_states[0][row].clone()

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        self.reorder_cache(rows)

    def part(self, rows: slice, width: int, slots: int) -> RecurrentLayer:
        """A view of some rows."""
        part = RecurrentLayer()
        for name in ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state"):
            getattr(part, name)[0] = True
        part.conv_kernel_size[0] = self.conv_kernel_size[0]
        part.conv_states[0], part.recurrent_states[0] = self.conv_states[0][rows], self.recurrent_states[0][rows]
        return part
