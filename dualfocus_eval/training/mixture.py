"""Which samples one epoch has, and in which order: decided by the seed alone, whatever the number of processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.training.samples import Samples, measure
from dualfocus_eval.training.tuning import TuningStage

__all__ = ["FILLER", "Mixed", "epoch", "mix", "shares"]

FILLER = -1
"""Stands for no sample, so that the last batch is as large as the others."""
GROUPS = 50
"""Batches among which samples are sorted by length: enough to save padding, few enough to leave the order random."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """The samples of one stage's epoch."""

    samples: tuple[Samples, ...]
    chosen: list[tuple[int, int]]
    """(source, row), as many times as the epoch has it."""
    order: list[int]
    """Positions in ``chosen``."""
    too_long: int
    """How many were left out for their length."""


def mix(stage: TuningStage, seed: int, data: Path, processor: Any, folder: Path) -> Mixed:
    """The epoch of ``stage`` over files below ``data``; what is measured is kept in ``folder``.

    ``processor`` comes from `training_processor`. Raises ``UserError`` where nothing is left to train on.
    """
    samples = tuple(measure(source, data, processor, folder) for source in stage.data)
    lengths = [found.column("length") for found in samples]
    drawn = shares([len(found) for found in samples], [source.weight for source in stage.data], seed)
    chosen = [(source, row) for source, row in drawn if lengths[source][row] <= stage.max_length]
    if not drawn:
        raise UserError(f"stage {stage.name}: the weights leave no sample of {sum(map(len, samples))}; raise them")
    if not chosen:
        raise UserError(f"stage {stage.name}: all samples are longer than max_length {stage.max_length}; raise it")
    order = epoch(
        [int(lengths[source][row]) for source, row in chosen], stage.batch_size, seed, grouped=stage.group_by_length
    )
    return Mixed(samples, chosen, order, len(drawn) - len(chosen))


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
