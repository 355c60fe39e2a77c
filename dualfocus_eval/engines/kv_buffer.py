"""A preallocated cache for a batch of rows that share their slots.

Every row uses the same slots, so that a step appends for all rows at once:

    [ cached prefix, right-aligned | prompt suffix, right-aligned | generated tokens ]

What lies before a row's own tokens in the first two parts is masked. Slots say what a token may attend to; where a
token stands in its text is told by position ids, which are independent of slots.

Layers with a sliding window keep all their states too, which their masks cut to the window. That costs memory, but the
states can be cut and reused at any token. Layers with a recurrent state have no slots; what they take in must be
unbroken, so no token of a row with a cached prefix may be preceded by padding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

import torch
from transformers.cache_utils import Cache

from dualfocus_eval.engines.buffer_layers import AttentionLayer, RecurrentLayer
from dualfocus_eval.engines.prefix_cache import Segment, States

__all__ = ["BufferPart", "KeyValueBuffer"]

HEADROOM = 64
"""Slots beyond the prompt to begin with."""


class BufferPart(Cache):  # type: ignore[misc]
    """Some neighbouring rows of a buffer, as a cache of their own on the same memory."""

    def __init__(self, whole: KeyValueBuffer, rows: slice, width: int) -> None:
        slots = whole.prefix_slots + whole.suffix_slots
        super().__init__(layers=[layer.part(rows, width, slots) for layer in whole.layers])
        self.mask = whole.mask[rows]


class KeyValueBuffer(Cache):  # type: ignore[misc]
    """The cache of one batch, with the mask of its slots.

    ``prefixes`` names each row's cached beginning (None without); their states are copied in. ``suffixes`` are the
    numbers of prompt tokens that each row is about to prefill. ``recurrent`` are the layers with a recurrent state.
    """

    def __init__(
        self,
        layers: int,
        prefixes: Sequence[Segment | None],
        suffixes: Sequence[int],
        recurrent: Collection[int] = (),
    ) -> None:
        self.prefix_slots = max((prefix.end if prefix else 0) for prefix in prefixes)
        self.suffix_slots = max(suffixes)
        capacity = self.prefix_slots + self.suffix_slots + HEADROOM
        super().__init__(
            layers=[RecurrentLayer() if index in recurrent else AttentionLayer(capacity) for index in range(layers)]
        )
        self.mask = torch.ones(len(prefixes), self.prefix_slots + self.suffix_slots, dtype=torch.bool)
        """Which slots hold a token of the row, (rows, slots)."""
        for row, (prefix, suffix) in enumerate(zip(prefixes, suffixes, strict=True)):
            self.mask[row, : self.prefix_slots - (prefix.end if prefix else 0)] = False
            self.mask[row, self.prefix_slots : self.prefix_slots + self.suffix_slots - suffix] = False
        if self.prefix_slots:
            for index, layer in enumerate(self.layers):
                layer.restore(prefixes, index, self.prefix_slots)
        # A state that goes on from a prefix takes in every token of the pass, padding too.
        self._widths = [
            suffix if recurrent and prefix else None for prefix, suffix in zip(prefixes, suffixes, strict=True)
        ]

    def parts(self) -> Iterator[tuple[slice, int, KeyValueBuffer | BufferPart]]:
        """The rows that one pass may prefill together: which they are, their longest suffix, and their cache.

        All at once, unless layers have a recurrent state: then rows that go on from a prefix must have suffixes of one
        length.
        """
        start = 0
        for width, run in groupby(self._widths):
            rows = slice(start, start + len(list(run)))
            start = rows.stop
            if rows == slice(0, len(self._widths)):
                yield rows, self.suffix_slots, self
            else:
                taken = width if width is not None else self._longest(rows)
                yield rows, taken, BufferPart(self, rows, taken)

    def _longest(self, rows: slice) -> int:
        """The longest suffix of some rows."""
        return int(self.mask[rows, self.prefix_slots :].sum(dim=1).max())

    def extend_mask(self, tokens: int = 1) -> torch.Tensor:
        """The mask with ``tokens`` more slots that every row fills."""
        self.mask = torch.nn.functional.pad(self.mask, (0, tokens), value=True)
        return self.mask

    def slice(self, row: int, start: int, end: int) -> list[States]:
        """Copies of one row's states, per layer what its ``cut`` gives of slots ``start`` to ``end``."""
        return [layer.cut(row, start, end) for layer in self.layers]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        chosen = torch.tensor(rows)
        self.mask = self.mask[chosen]
        for layer in self.layers:
            layer.keep(chosen)
