"""The intervals of docs/statistics.md from their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from tests.integration.recomputed.cells import Interval

__all__ = ["difference_interval", "jackknife_interval", "rate_interval"]

GROUPS = 20


def rate_interval(scores: pd.Series, images: pd.Series) -> Interval | None:
    """Wilson's interval on the effective sample size, Student's quantile for the images less one; None without any."""
    count = images.nunique()
    if count < 2:
        return (0.0, 1.0) if count else None
    mean, variance = scores.mean(), _variance(scores, images)
    known = variance > 0 and 0 < mean < 1
    return _wilson(mean, min(mean * (1 - mean) / variance, len(scores)) if known else count, count)


def difference_interval(differences: pd.Series, images: pd.Series) -> Interval:
    """Student's interval of a mean of differences; where none differs, Wilson's bound for 0 of so many images."""
    count = images.nunique()
    if count == 1:
        return -1.0, 1.0
    if (differences == 0).all():
        bound = _wilson(0.0, count, count)[1]
        return -bound, bound
    margin = _quantile(count) * np.sqrt(_variance(differences, images))
    return differences.mean() - margin, differences.mean() + margin


def jackknife_interval(
    part: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], *, rate: bool = True
) -> Interval | None:
    """Every 20th image is left out together, in the order in which they come; ``part`` has a column ``image``.

    A ``rate`` of 0 or 1 that no image left out changes has Wilson's bound.
    """
    place = {image: number % GROUPS for number, image in enumerate(part["image"].unique())}
    group = part["image"].map(place)
    groups = group.nunique()
    if groups < 2:
        return None
    value = statistic(part)
    without = np.array([statistic(part[group != left]) for left in range(groups)])
    margin = stats.t(groups - 1).ppf(0.975) * without.std(ddof=1) * (groups - 1) / np.sqrt(groups)
    if np.isnan(margin):
        return None
    if margin < 1e-9:
        images = part["image"].nunique()
        return _wilson(value, images, images) if rate and value in (0, 1) else None
    return max(0.0, value - margin), min(1.0, value + margin)


def _variance(values: pd.Series, images: pd.Series) -> float:
    """Of the mean: squared sums of deviations per image, and n / (n - 1) for n images."""
    sums = (values - values.mean()).groupby(images.to_numpy()).sum()
    variance = (sums**2).sum() / len(values) ** 2 * len(sums) / (len(sums) - 1)
    return float(variance) if variance > 1e-18 else 0.0


def _wilson(mean: float, size: float, images: int) -> Interval:
    """The rates that ``size`` answers do not reject: the roots of ``size (mean - x)^2 = t^2 x (1 - x)``."""
    square = _quantile(images) ** 2
    low, high = np.sort(np.roots([size + square, -2 * size * mean - square, size * mean**2]).real)
    return float(low), float(high)


def _quantile(images: int) -> float:
    return float(stats.t(images - 1).ppf(0.975))
