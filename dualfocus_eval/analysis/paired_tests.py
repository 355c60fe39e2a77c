"""McNemar's test for questions that share images, and Holm's adjustment for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualfocus_eval.analysis.intervals import by_cluster

__all__ = ["EXACT_UP_TO", "PairedTest", "holm", "mcnemar"]

EXACT_UP_TO = 1_000
"""McNemar's test is exact up to so many images that speak for one side, and normal above."""


@dataclass(frozen=True)
class PairedTest:
    """What two answers to the same questions say about each other."""

    better: int
    """Questions whose second answer scores higher."""
    worse: int
    p_two_sided: float
    p_worse: float
    """One-sided: how often chance alone would let the second come out as much worse as it did, or more."""


def mcnemar(before: ArrayLike, after: ArrayLike, clusters: ArrayLike) -> PairedTest:
    """McNemar's test with the questions of an image kept together.

    Each image's differences (questions that got better less questions that got worse) are added; if nothing but
    chance is at work, the sum of each image has either sign equally often. Up to `EXACT_UP_TO` images the distribution
    of the total over all signs is exact, and with one differing question per image it is the exact binomial of
    McNemar's test; above, the total over the root of the sum of squares is taken as normal (Yang et al. 2010).
    """
    signs = np.sign(np.subtract(after, before, dtype=float))
    _, sums, _ = by_cluster(signs, clusters)
    sums = sums[sums != 0]
    total = float(sums.sum())
    if not len(sums):
        lower, upper = 1.0, 1.0
    elif len(sums) <= EXACT_UP_TO:
        lower, upper = _sign_flip_tails(sums.astype(int), int(total))
    else:
        from scipy.stats import norm

        score = total / float(np.sqrt((sums**2).sum()))
        lower, upper = float(norm.cdf(score)), float(norm.sf(score))
    return PairedTest(int((signs > 0).sum()), int((signs < 0).sum()), min(1.0, 2 * min(lower, upper)), lower)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down method, in the order given."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _sign_flip_tails(sums: NDArray[Any], total: int) -> tuple[float, float]:
    """P(T <= total) and P(T >= total), T being the sum of ``sums`` with every sign drawn by a fair coin."""
    sizes = np.abs(sums)
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # of T = index - reach
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    at = total + reach
    return min(1.0, float(chance[: at + 1].sum())), min(1.0, float(chance[at:].sum()))
