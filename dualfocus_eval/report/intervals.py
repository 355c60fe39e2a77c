"""Estimates with 95% intervals that know that questions about one image are not independent."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["RESAMPLES", "Z95", "Estimate", "aggregate_of", "mean_of"]

Z95 = 1.959964
"""A normal distribution holds 95% within so many standard deviations."""
RESAMPLES = 1_000
RecordT = TypeVar("RecordT")


@dataclass(frozen=True)
class Estimate:
    """``value`` ± ``margin`` is the 95% interval; the margin is NaN with fewer than two clusters."""

    value: float
    margin: float

    @property
    def low(self) -> float:
        return self.value - self.margin

    @property
    def high(self) -> float:
        return self.value + self.margin


def mean_of(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """The mean with lmms-eval's clustered standard error, normal approximation; of paired differences as well."""
    from lmms_eval.api.metrics import clustered_stderr

    if not values:
        return Estimate(math.nan, math.nan)
    several = len(set(clusters)) > 1
    error = clustered_stderr(list(values), list(clusters)) if several else math.nan
    return Estimate(math.fsum(values) / len(values), Z95 * error)


def aggregate_of(
    records: Sequence[RecordT], clusters: Sequence[str], aggregate: Callable[[list[RecordT]], float], *, seed: int = 0
) -> Estimate:
    """A statistic that is no mean, such as F1: bootstrap standard error over `RESAMPLES` draws of whole clusters."""
    if not records:
        return Estimate(math.nan, math.nan)
    by_cluster: dict[str, list[RecordT]] = {}
    for record, cluster in zip(records, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(record)
    groups = list(by_cluster.values())
    value = aggregate(list(records))
    if len(groups) < 2:
        return Estimate(value, math.nan)
    draw = random.Random(seed)
    drawn = [
        aggregate([record for group in draw.choices(groups, k=len(groups)) for record in group])
        for _ in range(RESAMPLES)
    ]
    mean = math.fsum(drawn) / RESAMPLES
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in drawn) / (RESAMPLES - 1))
    return Estimate(value, Z95 * error)
