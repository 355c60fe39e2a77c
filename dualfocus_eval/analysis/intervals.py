"""Intervals that know that questions about one image are not independent.

Everywhere ``clusters`` names the image of each question, in any type that can be a key; what is resampled and
counted are whole images. docs/statistics.md says what was checked, and how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "GROUPS",
    "Estimate",
    "are_shares",
    "bootstrap",
    "by_cluster",
    "jackknife",
    "mean",
    "mean_difference",
    "rate",
]

LEVEL = 0.95
"""Of every interval."""
RESAMPLES = 2_000
GROUPS = 20
"""Groups of images that the jackknife leaves out in turn."""

_ROUNDING = 1e-9
"""A share may be as much below 0 or above 1."""
_DRAWN_AT_ONCE = 1_000_000
"""Images; it bounds the memory of the bootstrap."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; all three are NaN without any question."""

    value: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half the interval's length. The interval need not lie symmetrically about the value."""
        return (self.high - self.low) / 2


def rate(scores: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The mean of scores between 0 and 1, with Wilson's interval on the effective sample size.

    The effective size is ``p (1 - p) / V``, V being the mean's cluster-robust variance (Taylor linearisation), but
    never more than the number of questions; the normal quantile is Student's with one degree of freedom less than
    there are images (Korn and Graubard 1998; Franco et al. 2019). Where V says nothing, all scores being 0 or 1 or
    all images equal, the effective size is the number of images. No interval has zero width; one image alone says
    nothing about others, and gets 0 to 1.

    Raises ``ValueError`` for scores that are no shares (`are_shares`).
    """
    values, sums, counts = by_cluster(scores, clusters)
    if not len(values):
        return _NOTHING
    if not are_shares(values):
        raise ValueError(f"scores from {values.min()} to {values.max()} are not between 0 and 1")
    mean, images = float(values.mean()), len(counts)
    if images == 1:
        return Estimate(mean, 0.0, 1.0)
    variance, spread = _variance(sums, counts), mean * (1 - mean)
    size = min(spread / variance, len(values)) if variance > 0 and spread > 0 else images
    low, high = _wilson(mean, size, _quantile(images))
    return Estimate(mean, low, high)


def are_shares(values: ArrayLike) -> bool:
    """Whether all values lie between 0 and 1, as far as they are known and but for rounding."""
    found = np.asarray(values, dtype=float)
    return not bool(((found < -_ROUNDING) | (found > 1 + _ROUNDING)).any())


def mean(scores: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The mean of scores of any range, with a cluster-robust Student interval.

    The interval is NaN where the scores tell nothing of their spread: with one image, or all images equal.
    """
    values, sums, counts = by_cluster(scores, clusters)
    if not len(values):
        return _NOTHING
    value, images = float(values.mean()), len(counts)
    variance = _variance(sums, counts) if images > 1 else 0.0
    if not variance:
        return Estimate(value, np.nan, np.nan)
    margin = _quantile(images) * float(np.sqrt(variance))
    return Estimate(value, value - margin, value + margin)


def mean_difference(before: ArrayLike, after: ArrayLike, clusters: ArrayLike) -> Estimate:
    """The mean of ``after - before``, question by question, with a cluster-robust Student interval.

    Where no question differs, the interval says how often questions of other images could differ: Wilson's bound
    for 0 of so many images, on either side. With one image it is -1 to 1, the differences' own range.
    """
    values, sums, counts = by_cluster(np.subtract(after, before, dtype=float), clusters)
    if not len(values):
        return _NOTHING
    mean, images = float(values.mean()), len(counts)
    if images == 1:
        return Estimate(mean, -1.0, 1.0)
    if not values.any():
        bound = _wilson(0.0, images, _quantile(images))[1]
        return Estimate(0.0, -bound, bound)
    margin = _quantile(images) * float(np.sqrt(_variance(sums, counts)))
    return Estimate(mean, mean - margin, mean + margin)


def bootstrap(
    columns: ArrayLike,
    clusters: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of column sums, such as F1, with the percentile interval over draws of whole images.

    ``columns`` is (questions, k); ``statistic`` maps sums (..., k) to values (...). NaN values, as of a draw without
    any positive answer, are left out. The interval of a single image is NaN.
    """
    table = np.asarray(columns, dtype=float)
    if not len(table):
        return _NOTHING
    codes, _ = pd.factorize(np.asarray(clusters))
    sums = np.zeros((codes.max() + 1, table.shape[1]))  # (images, k)
    np.add.at(sums, codes, table)
    images, rng = len(sums), np.random.default_rng(seed)
    batch = max(1, _DRAWN_AT_ONCE // images)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(sums.sum(axis=0)))
        if images < 2:
            return Estimate(value, np.nan, np.nan)
        draws = [
            statistic(sums[rng.integers(images, size=(min(batch, resamples - done), images))].sum(axis=1))
            for done in range(0, resamples, batch)
        ]
    known = np.concatenate(draws)
    known = known[np.isfinite(known)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))


def jackknife(clusters: ArrayLike, statistic: Callable[[NDArray[np.bool_]], float]) -> Estimate:
    """Any statistic, with an interval by leaving out whole images in `GROUPS` groups; Student's quantile.

    ``statistic`` is given the questions to keep, (questions,) of bool. The interval is NaN with one image, where
    the statistic is NaN without some group, and where it is the same whichever is left out.
    """
    codes = pd.factorize(np.asarray(clusters))[0] % GROUPS
    value, groups = float(statistic(np.ones(len(codes), dtype=bool))), int(codes.max()) + 1
    if groups < 2:
        return Estimate(value, np.nan, np.nan)
    without = np.array([statistic(codes != group) for group in range(groups)], dtype=float)
    variance = (groups - 1) / groups * float(np.square(without - without.mean()).sum())
    if not variance > 1e-18 * max(1.0, value**2):  # what rounding leaves, or NaN
        return Estimate(value, np.nan, np.nan)
    margin = _quantile(groups) * float(np.sqrt(variance))
    return Estimate(value, value - margin, value + margin)


_NOTHING = Estimate(np.nan, np.nan, np.nan)


def by_cluster(values: ArrayLike, clusters: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The values; their sum and their number per cluster."""
    flat: Floats = np.asarray(values, dtype=float)
    codes: NDArray[np.intp] = pd.factorize(np.asarray(clusters))[0]
    if flat.shape != codes.shape:
        raise ValueError(f"one cluster per value is needed: {flat.shape} values, {codes.shape} clusters")
    return flat, np.bincount(codes, weights=flat).astype(float), np.bincount(codes).astype(float)


def _variance(sums: Floats, counts: Floats) -> float:
    """Of the mean over all questions: the ratio of two sums over clusters, linearised."""
    images, questions = len(counts), counts.sum()
    deviations = sums - counts * (sums.sum() / questions)
    variance = float(images / (images - 1) * (deviations**2).sum() / questions**2)
    # What rounding leaves of equal images is not a variance.
    return variance if variance > 1e-18 else 0.0


def _quantile(images: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, images - 1))


def _wilson(mean: float, size: float, quantile: float) -> tuple[float, float]:
    square = quantile**2 / size
    middle = (mean + square / 2) / (1 + square)
    half = float(np.sqrt(square * (mean * (1 - mean) + square / 4))) / (1 + square)
    # At 0 and 1 rounding may leave the mean itself outside.
    return max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half))
