"""Numbers of a table out of columns and records: rates, differences, and the tasks' own metrics, with intervals."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from dualfocus_eval.analysis import intervals
from dualfocus_eval.analysis.choices import Choice
from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Number

__all__ = ["is_share", "metric", "metrics_of", "points", "rate", "scale_notes", "shown"]

Clusters: TypeAlias = pd.Series | np.ndarray
"""What each question's image is; (questions,)."""


def rate(values: Sequence[float] | np.ndarray, clusters: Clusters) -> Number:
    """The mean of scores: of shares in per cent with `intervals.rate`'s interval, of others as they are with that of
    `intervals.mean`; NaN scores are left out.
    """
    values = np.asarray(values, dtype=np.float64)
    known, share = ~np.isnan(values), intervals.are_shares(values)
    estimated = intervals.rate if share else intervals.mean
    return shown(estimated(values[known], np.asarray(clusters)[known]), share=share)


def points(before: np.ndarray, after: np.ndarray, clusters: Clusters, *, share: bool = True) -> Number:
    """The mean of ``after - before``, question by question: in percentage points with `intervals.mean_difference`'s
    interval, or, where scores are no shares, as it is with that of `intervals.mean`.
    """
    found = intervals.mean_difference(before, after, clusters) if share else intervals.mean(after - before, clusters)
    return replace(shown(found, share=share, unit="points"), signed=True)


def metric(run: Run, task: str, name: str, choice: Choice) -> tuple[int, Number]:
    """One metric as `metrics_of` gives them."""
    return metrics_of(run, task, [name], choice)[name]


def metrics_of(run: Run, task: str, names: Sequence[str], choice: Choice) -> dict[str, tuple[int, Number]]:
    """For each of the task's metrics: how many questions it runs over, and its value under ``choice``.

    The task's own aggregation gives the value, in per cent where the metric is a share (`is_share`). Its interval is
    that of a mean where the metric is the mean of its records' ``score``, else a jackknife over groups of images; a
    count has neither unit nor interval. (0, NaN) where the choice has no records, or the aggregation needs more than
    the records. Of a task that cannot be loaded here, lmms-eval's own value of what the run selected, without interval.
    """
    if task not in run.tasks or task not in run.metrics:
        return {
            name: _official(run, task, name) if choice in run.selecting else (0, Number(math.nan)) for name in names
        }
    missing = [name for name in names if (task, name, choice) not in run.computed]
    aggregations = run.tasks[task].aggregation()
    columns, clusters = run.columns(task, choice), run.of(task)["cluster"].to_numpy()
    for name in missing:
        places, records = columns.get(name, ([], []))
        found = (len(places), _aggregated(records, clusters[places], aggregations.get(name), is_share(run, task, name)))
        run.computed[task, name, choice] = found
    return {name: run.computed[task, name, choice] for name in names}


def _official(run: Run, task: str, name: str) -> tuple[int, Number]:
    values = run.results["results"].get(task, {}).items()
    value = next((value for key, value in values if key.partition(",")[0] == name), None)
    if not isinstance(value, int | float):
        return 0, Number(math.nan)
    return len(run.of(task)), shown(Estimate(float(value), math.nan, math.nan), share=0 <= value <= 1)


def is_share(run: Run, task: str, name: str) -> bool:
    """Whether a metric is a share: no score and no value under macro, micro or selected lies outside 0 to 1.

    All others are shown as the task gives them, whatever the choice.
    """
    if (task, name, "share") not in run.computed:
        columns = [run.columns(task, choice).get(name, ([], []))[1] for choice in run.metrics.get(task, ())]
        aggregate = run.tasks[task].aggregation().get(name) if task in run.tasks else None
        known = [_value(records, aggregate) for records in columns]
        known += [score for records in columns for record in records if (score := _score(record)) is not None]
        run.computed[task, name, "share"] = intervals.are_shares(known)
    found: bool = run.computed[task, name, "share"]
    return found


def scale_notes(names: Sequence[str]) -> tuple[str, ...]:
    """What a table in per cent says of the tasks or metrics in it that are no shares."""
    listed = ", ".join(names)
    return (
        (f"These scores are not shares, so they are shown as the task gives them, not in percent: {listed}.",)
        if names
        else ()
    )


def shown(found: Estimate, *, share: bool, unit: str = "%") -> Number:
    """An estimate in per cent, or other hundredths; one that is no share as it is."""
    if share:
        return Number(100 * found.value, 100 * found.low, 100 * found.high, unit)
    return Number(found.value, found.low, found.high, decimals=2)


def _value(records: list[Any], aggregate: Callable[[list[Any]], float] | None) -> float:
    """What the task's own code makes of the records; NaN where it cannot."""
    if not records or aggregate is None or _needs_more(aggregate):
        return math.nan
    try:
        return float(aggregate(list(records)))  # it may change its list
    except Exception:  # a task's own code; lmms-eval too leaves out a metric that cannot be computed
        return math.nan


def _aggregated(
    records: list[Any], clusters: np.ndarray, aggregate: Callable[[list[Any]], float] | None, share: bool
) -> Number:
    value = _value(records, aggregate)
    if aggregate is None or math.isnan(value):
        return Number(math.nan)
    if _counts(aggregate):
        return Number(value, decimals=0)
    scores = [_score(record) for record in records]
    if None not in scores and math.isclose(sum(scores) / len(scores), value, abs_tol=1e-12):  # type: ignore[arg-type]
        estimated = intervals.rate if share else intervals.mean
        return shown(estimated(np.asarray(scores, dtype=np.float64), clusters), share=share)
    return shown(_jackknife(records, clusters, aggregate, share), share=share)


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
    records: Sequence[Any], clusters: Clusters, aggregate: Callable[[list[Any]], float], share: bool
) -> Estimate:
    """`intervals.jackknife` of the task's aggregation. A share's interval ends at 0 and 1.

    Where a share of 0 or 1 stays the same whatever is left out, it has `intervals.rate`'s bound for so many clusters.
    """
    shared = _shared(records)
    found = intervals.jackknife(clusters, lambda kept: float(aggregate([*compress(shared, kept.tolist())])))
    if not share:
        return found
    if math.isnan(found.low) and found.value in (0.0, 1.0) and len(pd.unique(clusters)) > 1:
        return intervals.rate(np.full(len(records), found.value), clusters)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, max(1.0, found.value)))


def _shared(records: Sequence[Any]) -> Sequence[Any]:
    """The same records, equal ones as one object: what is gone through many times should lie close together."""
    kept: dict[Any, Any] = {}
    try:
        return [kept.setdefault(tuple(record.items()), record) for record in records]
    except (AttributeError, TypeError):  # not a dict, or with a list in it
        return records
