"""The automatic prefix cache: the states of prompt beginnings, as a tree of segments under a byte budget.

A segment holds the states from its parent's end to its own; so what several prompts share is stored once. Its key
stands for everything before its end: token ids and the content of the pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

__all__ = ["GIB", "PrefixCache", "Segment", "States", "default_budget"]

GIB = 1 << 30
States = tuple[torch.Tensor, torch.Tensor]
"""Of one layer and one row: keys and values of some tokens, (heads, tokens, head_dim) each; or of a recurrent layer the
state after the last of them, convolution's and recurrent."""


def default_budget(weights: int, free: int) -> int:
    """Bytes for a model of ``weights`` bytes where ``free`` bytes are left: 16 times its weights, within limits.

    At most 2 GiB, beyond which little is gained: a batch's second passes and the next questions on the same image are
    what reuses states. At most an eighth of what is free.
    """
    return min(2 * GIB, 16 * weights, free // 8)


@dataclass(eq=False)
class Segment:
    """States of the tokens ``start`` to ``end`` of a prompt, given those of ``parent`` before them."""

    key: str
    parent: Segment | None
    end: int
    layers: Sequence[States] = field(repr=False)
    """Per layer keys and values of these tokens, or a recurrent state at ``end``."""
    children: int = 0
    """Cached segments that continue this one."""
    pins: int = 0

    @property
    def start(self) -> int:
        return self.parent.end if self.parent is not None else 0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)

    def chain(self) -> list[Segment]:
        """This segment and all before it, first to last."""
        segments = [self]
        while segments[-1].parent is not None:
            segments.append(segments[-1].parent)
        return segments[::-1]


class PrefixCache:
    """Segments by key within ``budget`` bytes; the least recently used leaf that is not pinned goes first."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.evictions = 0
        self._segments: OrderedDict[str, Segment] = OrderedDict()

    def __len__(self) -> int:
        return len(self._segments)

    def get(self, key: str) -> Segment | None:
        """The segment that ends a prefix of this key; it and all before it become the most recent."""
        segment = self._segments.get(key)
        if segment is not None:
            for part in reversed(segment.chain()):
                # Ancestors last: they must outlive their descendants.
                if part.key in self._segments:
                    self._segments.move_to_end(part.key)
        return segment

    def put(self, segment: Segment) -> None:
        """Keep ``segment`` if the budget allows and its parent, without which it is of no use, is in the cache."""
        parent = segment.parent
        if segment.key in self._segments or (parent is not None and self._segments.get(parent.key) is not parent):
            return
        with self.pinned([parent] if parent is not None else []):
            if not self._make_room(segment.size):
                return
        self._segments[segment.key] = segment
        self.used += segment.size
        if parent is not None:
            parent.children += 1

    @contextmanager
    def pinned(self, segments: Sequence[Segment]) -> Iterator[None]:
        """Nothing of ``segments`` is evicted inside the block."""
        for segment in segments:
            segment.pins += 1
        try:
            yield
        finally:
            for segment in segments:
                segment.pins -= 1

    def clear(self) -> None:
        """Forget everything."""
        for segment in self._segments.values():
            segment.children = 0
        self._segments.clear()
        self.used = 0

    def _make_room(self, size: int) -> bool:
        if size > self.budget:
            return False
        while self.used + size > self.budget:
            victim = next((s for s in self._segments.values() if not s.children and not s.pins), None)
            if victim is None:
                return False
            del self._segments[victim.key]
            self.used -= victim.size
            self.evictions += 1
            if victim.parent is not None:
                victim.parent.children -= 1
        return True
