"""Which samples one epoch has, and in which order: decided by the seed alone, whatever the number of processes."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["FILLER", "GROUPS", "epoch", "shares"]

FILLER = -1
"""Stands for no sample, so that the last batch is as large as the others."""
GROUPS = 50
"""Batches among which samples are sorted by length: enough to save padding, few enough to leave the order random."""


def shares(sizes: Sequence[int], weights: Sequence[float], seed: int) -> list[tuple[int, int]]:
    """(source, row) of every sample of the epoch: row r of a source floor(weight) times, and the rest a seeded draw."""
    chosen: list[tuple[int, int]] = []
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        whole = int(weight)
        rest = random.Random(f"share/{seed}/{source}").sample(range(size), round((weight - whole) * size))
        chosen += [(source, row) for _ in range(whole) for row in range(size)]
        chosen += [(source, row) for row in sorted(rest)]
    return chosen


def epoch(lengths: Sequence[int], batch_size: int, seed: int, *, grouped: bool) -> list[int]:
    """Positions in ``lengths``, each once, shuffled; one batch is ``batch_size`` of them in a row.

    ``grouped``: the samples of a batch are of similar length, and within it they are sorted. Of the full batches, that
    with the longest sample comes first, so that too little memory shows at once. The last batch is filled up with
    `FILLER`.
    """
    rng = random.Random(f"epoch/{seed}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    full = len(order) - len(order) % batch_size
    order, last = order[:full], order[full:]
    if grouped:
        order = _grouped(order, lengths, batch_size, rng)
        last.sort(key=lambda position: -lengths[position])
    return order + last + [FILLER] * (-len(last) % batch_size)


def _grouped(order: list[int], lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * GROUPS):
        group = sorted(order[start : start + batch_size * GROUPS], key=lambda position: -lengths[position])
        batches += [group[first : first + batch_size] for first in range(0, len(group), batch_size)]
    rng.shuffle(batches)
    longest = max(range(len(batches)), key=lambda number: lengths[batches[number][0]], default=None)
    if longest is not None:
        batches.insert(0, batches.pop(longest))
    return [position for batch in batches for position in batch]
