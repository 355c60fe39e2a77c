"""Two runs of the same questions, put side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.intervals import Estimate, are_shares, bootstrap, mean, mean_difference
from dualfocus_eval.analysis.paired_tests import PairedTest, holm, mcnemar
from dualfocus_eval.analysis.runs import Run, engine_words
from dualfocus_eval.common.errors import UserError

__all__ = [
    "Comparison",
    "changed_engine",
    "changed_settings",
    "compare_categories",
    "compare_tasks",
    "describe",
    "engine_words",
    "pair_runs",
]


@dataclass(frozen=True)
class Comparison:
    """The same questions in both runs. Means and differences are in the unit of the scores."""

    name: str
    questions: int
    images: int
    first: float
    second: float
    difference: Estimate
    """Second less first; percentile bootstrap over images, or, where nothing differs, `mean_difference`."""
    test: PairedTest
    """Its p-values are NaN without any question."""
    p_adjusted: float
    """Two-sided, adjusted for the number of comparisons made together (Holm) that have questions."""
    unscored: int = 0
    """Questions left out, because a run has no score of theirs."""
    share: bool = True
    """Whether all scores lie between 0 and 1."""


@dataclass(frozen=True)
class Pairs:
    """The questions that both runs answered."""

    rows: pd.DataFrame
    """A row per question: ``task``, ``doc_id``, ``key``, ``question``, ``target``, ``cluster``, and ``answer`` and
    ``score`` of both runs (``_first``, ``_second``)."""
    left_out: Mapping[str, tuple[str, ...]]
    """Why others are not compared, and their keys."""


_SHARED = ("task", "doc_id", "question", "target")
_ONLY_FIRST, _ONLY_SECOND = "only in A", "only in B"


def pair_runs(first: Run, second: Run, *, any_prompt: bool = False) -> Pairs:
    """The questions that both runs answered: the same text, right answer and, where traces tell, image.

    With ``any_prompt`` the text may differ if it is about the same document. Raises ``UserError`` where a run has no
    samples or they have no question in common.
    """
    for run in (first, second):
        if run.answers.empty:
            raise UserError(f"{run.path} has no answers to single questions beside it; run with --log_samples")
    columns = [*_SHARED, "key", "doc_hash", "cluster", "traced", "failed", "answer", "score_selected"]
    sides = [run.answers[columns].rename(columns={"score_selected": "score"}) for run in (first, second)]
    both = sides[0].merge(sides[1], on="key", how="outer", suffixes=("_first", "_second"), indicator="side")
    shared = both["side"] == "both"
    traced = (both["traced_first"] == True) & (both["traced_second"] == True)  # noqa: E712  NaN on one side
    reasons = {
        _ONLY_FIRST: both["side"] == "left_only",
        _ONLY_SECOND: both["side"] == "right_only",
        **_failed(both, shared),
        "with another text in B": shared & _differs(both, "question") & (_differs(both, "doc_hash") | (not any_prompt)),
        "with another right answer in B": shared & (both["target_first"] != both["target_second"]),
        "about another image in B": traced & (both["cluster_first"] != both["cluster_second"]),
    }
    left_out, kept = {}, pd.Series(True, index=both.index)
    for why, wrong in reasons.items():
        if (found := both.loc[kept & wrong, "key"]).any():
            left_out[why] = tuple(found)
            kept &= ~wrong
    both = both[kept]
    if both.empty:
        raise UserError(
            "the runs have no question in common that both answered, so there is nothing to compare: "
            f"{describe(left_out)}; compare runs of the same questions"
        )
    return Pairs(_paired(both, sides[0]["key"]), left_out)


def _differs(both: pd.DataFrame, name: str) -> pd.Series:
    return both[f"{name}_first"] != both[f"{name}_second"]


def describe(left_out: Mapping[str, Sequence[str]]) -> str:
    """How many questions are left out and why, with the first of each."""
    named = {why: ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "") for why, keys in left_out.items()}
    return "; ".join(f"{len(keys):,} {why} ({named[why]})" for why, keys in left_out.items())


def _failed(both: pd.DataFrame, shared: pd.Series) -> dict[str, pd.Series]:
    """Which questions failed, by run and kind of failure."""
    sides = {"A": both["failed_first"], "B": both["failed_second"]}
    return {
        f"failed in {letter} as {kind}": shared & (failed == kind)
        for letter, failed in sides.items()
        for kind in failed.dropna().unique()
    }


def _paired(both: pd.DataFrame, order: pd.Series) -> pd.DataFrame:
    # Only a trace names the image by its content; without one it is what the task calls it.
    traced, untraced = both["traced_first"].astype(bool), ~both["traced_second"].astype(bool)
    both = both.assign(cluster=both["cluster_first"].where(traced | untraced, both["cluster_second"]))
    shared = {f"{name}_first": name for name in _SHARED}
    kept = order[order.isin(both["key"])]
    pairs = both.rename(columns=shared).set_index("key").loc[kept].reset_index()
    pairs["doc_id"] = pairs["doc_id"].astype("int64")
    return pairs[[*shared.values(), "key", "cluster", "answer_first", "answer_second", "score_first", "score_second"]]


def compare_tasks(pairs: pd.DataFrame) -> list[Comparison]:
    """Each task by its questions' scores."""
    groups = ((str(task), rows) for task, rows in pairs.groupby("task", sort=False))
    return _compared((name, rows, rows["score_first"], rows["score_second"]) for name, rows in groups)


def compare_categories(pairs: pd.DataFrame, first: Run, second: Run) -> list[Comparison]:
    """Each metric of a task that scores some of its questions only, such as a kind of question."""
    return _compared(_categories(pairs, first, second))


_Group = tuple[str, pd.DataFrame, pd.Series, pd.Series]


def _categories(pairs: pd.DataFrame, first: Run, second: Run) -> Iterator[_Group]:
    for task, rows in pairs.groupby("task", sort=False):
        scores = [_metric_scores(run, str(task)) for run in (first, second)]
        directions = first.results.get("higher_is_better", {}).get(task, {})
        for metric in (name for name, better in directions.items() if better):
            if not all(metric in table for table in scores):
                continue
            before, after = (table[metric].reindex(rows["key"]).set_axis(rows.index) for table in scores)
            scored = before.notna() & after.notna()
            if 0 < scored.sum() < len(rows):
                yield f"{task}: {metric}", rows[scored], before[scored], after[scored]


def _metric_scores(run: Run, task: str) -> pd.DataFrame:
    """By question (key), the ``score`` in the record of each metric; NaN where a metric does not count a question."""
    records = [_scores(record or {}) for record in run.metrics[task]["selected"]]
    return pd.DataFrame(records, index=run.of(task)["key"], dtype=float)


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    found = {name: value.get("score") for name, value in record.items() if isinstance(value, Mapping)}
    return {name: float(score) for name, score in found.items() if isinstance(score, int | float)}


def _compared(groups: Iterator[_Group]) -> list[Comparison]:
    found = []
    for name, rows, first, second in groups:
        known = first.notna() & second.notna()
        before, after = first[known].to_numpy(), second[known].to_numpy()
        clusters = rows.loc[known, "cluster"].to_numpy()
        test = mcnemar(before, after, clusters) if len(before) else PairedTest(0, 0, np.nan, np.nan)
        found.append((name, before, after, clusters, test, int((~known).sum())))
    tested = [place for place, (*_, test, _) in enumerate(found) if not np.isnan(test.p_two_sided)]
    adjusted = dict(zip(tested, holm([found[place][4].p_two_sided for place in tested]), strict=True))
    return [
        Comparison(
            name,
            len(before),
            len(set(clusters)),
            float(before.mean()) if len(before) else np.nan,
            float(after.mean()) if len(after) else np.nan,
            _difference(before, after, clusters),
            test,
            adjusted.get(place, np.nan),
            unscored,
            are_shares(before) and are_shares(after),
        )
        for place, (name, before, after, clusters, test, unscored) in enumerate(found)
    ]


def _difference(before: Any, after: Any, clusters: Any) -> Estimate:
    if not (after - before).any() or len(set(clusters)) < 2:
        share = are_shares(before) and are_shares(after)
        return mean_difference(before, after, clusters) if share else mean(after - before, clusters)
    columns = np.column_stack([after - before, np.ones(len(before))])
    return bootstrap(columns, clusters, lambda sums: sums[..., 0] / sums[..., 1])


def changed_engine(first: Run, second: Run) -> str | None:
    """The engines of two runs, where both tell theirs and they differ."""
    environments = [(run.record or {}).get("environment") for run in (first, second)]
    known = [engine_words(environment) for environment in environments if environment]
    return f"{known[0]} -> {known[1]}" if len(set(known)) == 2 else None


def changed_settings(first: Run, second: Run) -> list[str]:
    """The settings that both runs have and that differ, as ``name before -> after``."""
    return [
        f"{name} {value} -> {second.settings[name]}"
        for name, value in first.settings.items()
        if name in second.settings and value != second.settings[name]
    ]
