"""Scores of the answers so far, by each task's own function."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_eval.analysis import intervals
from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.analysis.scoring import document_reader, included_folders, load_tasks, own_scoring, score_of
from dualfocus_eval.common.errors import first_line
from dualfocus_eval.traces.record import Pathway, Trace

__all__ = ["PATHWAYS", "Candidates", "ScoreSummary", "TaskScores", "candidates_of", "load_scores"]

PATHWAYS = ("macro", "micro", "selected")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What scoring needs of a trace."""

    macro: str | None
    micro: str | None
    selected: Pathway | None
    cluster: str
    """The image's digest; of a question without an image its key."""


def candidates_of(trace: Trace, selection: str) -> Candidates:
    """Both answers, and which of them the rule ``selection`` picks: the trace may be of an earlier run's rule."""
    selected = trace.selected
    if trace.macro and trace.micro and selected:
        selected = trace.picks.get(selection, selected)
    return Candidates(
        trace.macro.text if trace.macro else None,
        trace.micro.text if trace.micro else None,
        selected,
        trace.images[0].digest if trace.images else trace.key,
    )


@dataclass(frozen=True)
class ScoreSummary:
    """What the scores of one task come to, with intervals clustered by image."""

    share: bool
    """Whether all scores lie between 0 and 1, so that they can be shown in percent."""
    means: Mapping[str, Estimate]
    """By pathway, those with any score."""
    difference: Estimate | None
    """What selecting gains over macro, question by question; None where no question has both scores."""


@dataclass
class TaskScores:
    """The scores of one task's answers; a document that is scored again replaces what it scored before."""

    document: Callable[[int], Mapping[str, Any]]
    score: Callable[[Mapping[str, Any], str], Mapping[str, Any]]
    main: str | None
    """The metric that the task is known by."""
    rows: dict[int, tuple[str, float, float, float]] = field(default_factory=dict)
    """By document: the cluster, and the scores of `PATHWAYS`; NaN where a pathway has none."""
    unscorable: Counter[str] = field(default_factory=Counter)
    """Why answers could not be scored."""
    _summary: ScoreSummary | None = None

    def add(self, answers: Iterable[tuple[int, Candidates]]) -> None:
        """Score the answers to documents, best in their order."""
        for doc_id, found in answers:
            self._summary = None
            try:
                scores = self._scores(self.document(doc_id), found)
            except Exception as error:  # the task's own code and data
                self.unscorable[f"{type(error).__name__}: {first_line(error)}"] += 1
                continue
            self.rows[doc_id] = (found.cluster, *scores)

    def _scores(self, doc: Mapping[str, Any], found: Candidates) -> tuple[float, float, float]:
        def scored(text: str | None) -> float:
            return math.nan if text is None else score_of(self.score(doc, text), self.main)

        # A question that failed counts as an empty answer, as lmms-eval has it.
        macro = scored(found.macro if found.macro is not None or found.micro is not None else "")
        micro = macro if found.micro in (None, found.macro) else scored(found.micro)
        return macro, micro, micro if found.selected == "micro" else macro

    def summary(self) -> ScoreSummary:
        """What the scores so far come to; computed anew where there are more."""
        if self._summary is None:
            self._summary = self._summarized()
        return self._summary

    def _summarized(self) -> ScoreSummary:
        columns, clusters = self._columns()
        share = intervals.are_shares(np.concatenate([*columns.values()]))
        known = {name: ~np.isnan(column) for name, column in columns.items()}
        estimated = intervals.rate if share else intervals.mean
        means = {
            name: estimated(column[known[name]], clusters[known[name]])
            for name, column in columns.items()
            if known[name].any()
        }
        both = known["macro"] & known["selected"]
        before, after = columns["macro"][both], columns["selected"][both]
        if not both.any():
            return ScoreSummary(share, means, None)
        if share:
            return ScoreSummary(share, means, intervals.mean_difference(before, after, clusters[both]))
        return ScoreSummary(share, means, intervals.mean(after - before, clusters[both]))

    def _columns(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        clusters, *scores = zip(*self.rows.values(), strict=True) if self.rows else ((), (), (), ())
        columns = {name: np.asarray(column, dtype=float) for name, column in zip(PATHWAYS, scores, strict=True)}
        return columns, np.asarray(clusters, dtype=object)


def load_scores(
    tasks: Sequence[str], arguments: Mapping[str, Any], place: Path
) -> tuple[dict[str, TaskScores], dict[str, str]]:
    """What scores each task, and why others cannot be scored. ``arguments`` are lmms-eval's, as the run noted them.

    As in a report, code of a folder inside ``place`` is not run. Loading takes seconds.
    """
    folders, unusable = included_folders({"config": {"resolved_cli_args": arguments}}, place)
    loaded, unloaded = load_tasks(tasks, folders)
    tags = arguments.get("reasoning_tags")
    scores: dict[str, TaskScores] = {}
    for name, task in loaded.items():
        try:
            scores[name] = TaskScores(document_reader(task), own_scoring(task, tags), _main_metric(task))
        except Exception as error:  # the task's own code and data cost its scores, never the page
            unloaded[name] = f"{type(error).__name__}: {first_line(error)}"
    return scores, {name: "; ".join([why, *unusable]) for name, why in unloaded.items()}


def _main_metric(task: Any) -> str | None:
    listed = getattr(task.config, "metric_list", None) or ()
    return next((str(entry["metric"]) for entry in listed if "metric" in entry), None)
