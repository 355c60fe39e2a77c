"""Several settings of one model beside its macro answers: gain and harm, what is left of a gain, cost, Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, scores_of
from dualfocus_eval.analysis.intervals import Estimate, bootstrap
from dualfocus_eval.analysis.paired_tests import holm
from dualfocus_eval.analysis.pairing import Comparison, compare_tasks, pair_runs
from dualfocus_eval.analysis.runs import Run

__all__ = ["Effect", "SettingCost", "cost_of", "effects_of", "pareto_front"]


@dataclass(frozen=True)
class Effect:
    """What a setting's answers to a task's questions are worth beside the macro answers."""

    setting: str
    comparison: Comparison
    """Of the macro answers (first) and the setting's (second); p is adjusted for all settings and tasks."""
    remaining: Estimate | None
    """The share of the reference's gain that this setting has too, on the questions of both; None for the reference
    itself, and where the reference's gain may be chance."""


def effects_of(macro: Run, runs: Mapping[str, Run], choice: Choice, reference: str) -> dict[str, list[Effect]]:
    """By task the effect of each setting, in order. ``choice`` tells which of its answers counts: micro or selected.

    ``reference`` names the setting whose gain the others are measured by. Raises ``UserError`` where a run has no
    question in common with ``macro``.
    """
    scores = {name: pair_runs(macro, _scored_as(run, choice)).rows for name, run in runs.items()}
    compared = {name: {found.name: found for found in compare_tasks(rows)} for name, rows in scores.items()}
    adjusted = _adjusted(compared)
    effects: dict[str, list[Effect]] = {task: [] for task in macro.task_names}
    for name, tasks in adjusted.items():
        for task, comparison in tasks.items():
            against = adjusted[reference].get(task)
            known = name != reference and against is not None and against.difference.low > 0
            remaining = _remaining(scores[name], scores[reference], task) if known else None
            effects[task].append(Effect(name, comparison, remaining))
    return {task: found for task, found in effects.items() if found}


def _scored_as(run: Run, choice: Choice) -> Run:
    """``run`` as if ``choice`` had been its answer."""
    return replace(run, answers=run.answers.assign(score_selected=scores_of(run.answers, choice)))


def _adjusted(compared: Mapping[str, Mapping[str, Comparison]]) -> dict[str, dict[str, Comparison]]:
    """P-values adjusted for all comparisons together."""
    places = [(name, task) for name, tasks in compared.items() for task in tasks]
    known = [place for place in places if not np.isnan(compared[place[0]][place[1]].test.p_two_sided)]
    values = dict(zip(known, holm([compared[name][task].test.p_two_sided for name, task in known]), strict=True))
    return {
        name: {task: replace(found, p_adjusted=values.get((name, task), np.nan)) for task, found in tasks.items()}
        for name, tasks in compared.items()
    }


def _remaining(rows: pd.DataFrame, reference: pd.DataFrame, task: str) -> Estimate:
    """One gain over another, on the questions of both; bootstrap over images."""
    both = pd.concat([_gains(rows, task), _gains(reference, task)], axis=1, join="inner").dropna()
    clusters = rows.set_index("key")["cluster"].reindex(both.index)
    return bootstrap(both.to_numpy(), clusters, lambda sums: sums[..., 0] / sums[..., 1])


def _gains(rows: pd.DataFrame, task: str) -> pd.Series:
    """By question (key)."""
    asked = rows[rows["task"] == task].set_index("key")
    return asked["score_second"] - asked["score_first"]


@dataclass(frozen=True)
class SettingCost:
    """What an answer of a setting costs, per question, as if the setting had been run alone."""

    questions: int
    images_encoded: float
    tokens_prefilled: float
    tokens_reused: float
    decode_steps: float
    seconds: float
    """Of the engine's phases."""

    @property
    def tokens(self) -> float:
        """Tokens that went through the decoder: prefilled, or fed one at a time."""
        return self.tokens_prefilled + self.decode_steps


def cost_of(run: Run, task: str) -> SettingCost:
    """Per question of a task, by the traces; NaN where they do not tell.

    A batch of questions of two tasks counts for that of its first question.
    """
    answers = run.of(task)
    questions = float(answers["cost_questions"].sum())
    counters = ("images_encoded", "tokens_prefilled", "tokens_reused", "decode_steps")
    counts = [float(answers[f"cost_{name}"].sum()) for name in counters]
    seconds = float(answers.filter(like="seconds_").sum().sum())
    return SettingCost(int(questions), *(value / questions if questions else np.nan for value in (*counts, seconds)))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (cost, score) points that no other one beats in both, from the cheapest to the dearest.

    A point that is not known in full, with a NaN, is not among them.
    """
    front: list[int] = []
    known = [place for place, point in enumerate(points) if not np.isnan(point).any()]
    for place in sorted(known, key=lambda place: (points[place][0], -points[place][1])):
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front
