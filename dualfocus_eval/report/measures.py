"""Numbers of a table out of columns and records: rates, differences, and the tasks' own metrics, with intervals."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dualfocus_eval.report.choices import Choice
from dualfocus_eval.report.intervals import mean_of
from dualfocus_eval.report.runs import Run
from dualfocus_eval.report.tables import Number

__all__ = ["GROUPS", "metric", "overall_metrics", "points", "rate"]

GROUPS = 50
"""Groups of clusters that the jackknife leaves out in turn."""
_INTERVAL_KINDS = ("%", "points")


def rate(values: Sequence[float] | np.ndarray, clusters: pd.Series) -> Number:
    """The mean in per cent, with a 95% interval that knows that questions about one image are not independent."""
    return _mean(values, clusters, "%")


def points(values: Sequence[float] | np.ndarray, clusters: pd.Series) -> Number:
    """The mean of paired differences in percentage points, with its 95% interval."""
    return _mean(values, clusters, "points")


def metric(run: Run, task: str, name: str, choice: Choice) -> tuple[int, Number]:
    """How many questions one of the task's metrics runs over, and its value in per cent under ``choice``.

    The task's own aggregation gives the value. Its interval is that of a mean where the metric is the mean of its
    records' ``score``, else a jackknife over `GROUPS` groups of images; a count has neither unit nor interval. (0, NaN)
    where the choice has no records, or the aggregation needs more than the records.
    """
    found = _records(run, task, name, choice)
    aggregate = run.tasks[task].aggregation().get(name) if task in run.tasks else None
    if not found[0] or aggregate is None or _needs_more(aggregate):
        return 0, Number(math.nan)
    records, clusters = found
    try:
        value = float(aggregate(records))
    except Exception:  # a task's own code; its metric is left out, as it is in lmms-eval's results
        return 0, Number(math.nan)
    if all(isinstance(record, Mapping) and "counted" in record for record in records):
        return len(records), Number(value, decimals=0)
    scores = [_score(record) for record in records]
    if None not in scores and math.isclose(sum(scores) / len(scores), value, abs_tol=1e-12):  # type: ignore[arg-type]
        return len(records), rate(scores, clusters)  # type: ignore[arg-type]
    low, high = _jackknife(records, clusters, aggregate, value)
    return len(records), Number(100 * value, 100 * low, 100 * high, "%")


def overall_metrics(run: Run, task: str) -> list[str]:
    """The task's metrics that all of its questions count in, in the order of its YAML."""
    listed = [str(entry["metric"]) for entry in run.results["configs"].get(task, {}).get("metric_list") or ()]
    records = [record for record in run.metrics.get(task, {}).get("selected", ()) if record]
    return [name for name in listed if records and all(name in record for record in records)]


def _mean(values: Sequence[float] | np.ndarray, clusters: pd.Series, unit: str) -> Number:
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    estimate = mean_of(values[known].tolist(), clusters[known].tolist())
    return Number(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, unit, signed=unit == "points")


def _records(run: Run, task: str, name: str, choice: Choice) -> tuple[list[Any], pd.Series]:
    rows = run.of(task)
    found = [
        (place, record[name])
        for place, record in enumerate(run.records(task, choice) if task in run.metrics else ())
        if record is not None and name in record
    ]
    return [record for _, record in found], rows["cluster"].iloc[[place for place, _ in found]]


def _needs_more(aggregate: Callable[..., Any]) -> bool:
    """Whether it asks for the run's arguments beside the records, as those do that write submission files."""
    needed = [
        parameter
        for parameter in inspect.signature(aggregate).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return len(needed) != 1


def _score(record: Any) -> float | None:
    value = record.get("score") if isinstance(record, Mapping) else record
    return float(value) if isinstance(value, int | float) else None


def _jackknife(
    records: Sequence[Any], clusters: pd.Series, aggregate: Callable[[list[Any]], float], value: float
) -> tuple[float, float]:
    """A 95% interval of any statistic: whole clusters are left out in `GROUPS` groups; t distribution.

    NaN with fewer than two clusters.
    """
    codes = pd.factorize(clusters)[0] % GROUPS
    groups = int(codes.max()) + 1
    if groups < 2:
        return math.nan, math.nan
    without = [
        float(aggregate([record for record, code in zip(records, codes, strict=True) if code != group]))
        for group in range(groups)
    ]
    variance = (groups - 1) / groups * float(np.square(np.asarray(without) - np.mean(without)).sum())
    margin = float(stats.t.ppf(0.975, groups - 1)) * math.sqrt(variance)
    return value - margin, value + margin
