"""The rows of a batch, and which of them go well together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch

from dualfocus_eval.engines.prefix_cache import Segment
from dualfocus_eval.engines.rendering import Boundary, Prompt

__all__ = ["MAX_PADDING", "BatchRow", "similar_lengths"]

T = TypeVar("T")

MAX_PADDING = 1.25
"""Slots per token that a padded batch may take before it is split."""


@dataclass(eq=False)
class BatchRow:
    """A prompt on its way through the model, with the continuation that it is to be scored on, if any."""

    index: int
    """Position of its request in the caller's list."""
    prompt: Prompt
    continuation: tuple[int, ...] = ()
    base: Segment | None = None
    """The longest reusable beginning; later the last segment cut from the row's own states."""
    shares_prompt: bool = False
    """Whether another row has the same prompt, as two continuations that are compared have."""

    @property
    def ids(self) -> tuple[int, ...]:
        # The last token of a continuation predicts nothing that is asked for.
        return self.prompt.ids + self.continuation[:-1]

    def positions(self) -> torch.Tensor:
        """Position ids of ``ids``, (axes, length)."""
        extra = torch.arange(len(self.continuation[:-1])) + self.prompt.next_position
        return torch.cat([self.prompt.positions, extra.expand(len(self.prompt.positions), -1)], dim=1)

    @property
    def done(self) -> int:
        """How many of ``ids`` are in ``base``."""
        return self.base.end if self.base else 0

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """The prompt's, and where several rows have it in common its own end but for the last token."""
        if not self.shares_prompt:
            return self.prompt.boundaries
        return (*self.prompt.boundaries, self.prompt.last_boundary)

    def missing(self) -> list[Boundary]:
        """The places after ``base`` where the prompt's states may be cut for reuse."""
        return [b for b in self.boundaries if b.stored and b.end > self.done]


def similar_lengths(items: Iterable[T], length: Callable[[T], int], most: int) -> list[list[T]]:
    """Groups of at most ``most`` items whose lengths differ little enough to be padded to one length."""
    groups: list[list[T]] = []
    tokens = 0
    for item in sorted(items, key=length):
        size = length(item)
        if groups and len(groups[-1]) < most and size * (len(groups[-1]) + 1) <= MAX_PADDING * (tokens + size):
            groups[-1].append(item)
            tokens += size
        else:
            groups.append([item])
            tokens = size
    return groups
