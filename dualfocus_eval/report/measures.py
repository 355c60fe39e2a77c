"""Numbers of a table out of columns and records: rates, differences, and the tasks' own metrics, with intervals."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from dualfocus_eval.report import statistics
from dualfocus_eval.report.choices import Choice
from dualfocus_eval.report.runs import Run
from dualfocus_eval.report.tables import Number

__all__ = ["GROUPS", "metric", "metrics_of", "points", "rate"]

GROUPS = 20
"""Groups of clusters that the jackknife leaves out in turn."""
Clusters: TypeAlias = pd.Series | np.ndarray
"""What each question's image is; (questions,)."""


def rate(values: Sequence[float] | np.ndarray, clusters: Clusters) -> Number:
    """The mean of scores between 0 and 1, in per cent, with `statistics.rate`'s interval; NaN scores are left out."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    found = statistics.rate(values[known], np.asarray(clusters)[known])
    return Number(100 * found.value, 100 * found.low, 100 * found.high, "%")


def points(before: np.ndarray, after: np.ndarray, clusters: Clusters) -> Number:
    """The mean of ``after - before``, question by question, in percentage points (`statistics.mean_difference`)."""
    found = statistics.mean_difference(before, after, clusters)
    return Number(100 * found.value, 100 * found.low, 100 * found.high, "points", signed=True)


def metric(run: Run, task: str, name: str, choice: Choice) -> tuple[int, Number]:
    """One metric as `metrics_of` gives them."""
    return metrics_of(run, task, [name], choice)[name]


def metrics_of(run: Run, task: str, names: Sequence[str], choice: Choice) -> dict[str, tuple[int, Number]]:
    """For each of the task's metrics: how many questions it runs over, and its value in per cent under ``choice``.

    The task's own aggregation gives the value. Its interval is that of a mean where the metric is the mean of its
    records' ``score``, else a jackknife over `GROUPS` groups of images; a count has neither unit nor interval. (0, NaN)
    where the choice has no records, or the aggregation needs more than the records.
    """
    if task not in run.tasks or task not in run.metrics:
        return dict.fromkeys(names, (0, Number(math.nan)))
    missing = [name for name in names if (task, name, choice) not in run.computed]
    aggregations = run.tasks[task].aggregation()
    columns, clusters = run.columns(task, choice), run.of(task)["cluster"].to_numpy()
    for name in missing:
        places, records = columns.get(name, ([], []))
        found = (len(places), _aggregated(records, clusters[places], aggregations.get(name)))
        run.computed[task, name, choice] = found
    return {name: run.computed[task, name, choice] for name in names}


def _aggregated(records: list[Any], clusters: np.ndarray, aggregate: Callable[[list[Any]], float] | None) -> Number:
    if not records or aggregate is None or _needs_more(aggregate):
        return Number(math.nan)
    try:
        value = float(aggregate(records))
    except Exception:  # a task's own code; lmms-eval too leaves out a metric that cannot be computed
        return Number(math.nan)
    if _counts(aggregate):
        return Number(value, decimals=0)
    scores = [_score(record) for record in records]
    if None not in scores and math.isclose(sum(scores) / len(scores), value, abs_tol=1e-12):  # type: ignore[arg-type]
        return rate(scores, clusters)  # type: ignore[arg-type]
    low, high = _jackknife(records, clusters, aggregate, value)
    return Number(100 * value, 100 * low, 100 * high, "%")


def _needs_more(aggregate: Callable[..., Any]) -> bool:
    """Whether it asks for the run's arguments beside the records, as those do that write submission files."""
    needed = [
        parameter
        for parameter in inspect.signature(aggregate).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return len(needed) != 1


def _counts(aggregate: Callable[..., Any]) -> bool:
    """Whether it counts questions, by what it is annotated to return."""
    return inspect.signature(aggregate).return_annotation in (int, "int")


def _score(record: Any) -> float | None:
    value = record.get("score") if isinstance(record, dict) else record
    return float(value) if isinstance(value, int | float) else None


def _jackknife(
    records: Sequence[Any], clusters: Clusters, aggregate: Callable[[list[Any]], float], value: float
) -> tuple[float, float]:
    """A 95% interval of any statistic: whole clusters are left out in `GROUPS` groups; t distribution.

    NaN with fewer than two clusters. Metrics are shares: the interval ends at 0 and 1. Where the value stays the same
    whatever is left out, a share of 0 or 1 has `statistics.rate`'s bound for so many clusters, any other NaN.
    """
    codes = pd.factorize(clusters)[0] % GROUPS
    groups = int(codes.max()) + 1
    if groups < 2:
        return math.nan, math.nan
    records = _shared(records)
    without = [float(aggregate([*compress(records, (codes != group).tolist())])) for group in range(groups)]
    variance = (groups - 1) / groups * float(np.square(np.asarray(without) - np.mean(without)).sum())
    if variance < 1e-18:  # what rounding leaves
        same = statistics.rate(np.full(len(codes), value), clusters) if value in (0.0, 1.0) else None
        return (same.low, same.high) if same else (math.nan, math.nan)
    margin = float(stats.t.ppf(0.975, groups - 1)) * math.sqrt(variance)
    return max(0.0, value - margin), min(max(1.0, value), value + margin)


def _shared(records: Sequence[Any]) -> Sequence[Any]:
    """The same records, equal ones as one object: what is gone through many times should lie close together."""
    kept: dict[Any, Any] = {}
    try:
        return [kept.setdefault(tuple(record.items()), record) for record in records]
    except (AttributeError, TypeError):  # not a dict, or with a list in it
        return records
