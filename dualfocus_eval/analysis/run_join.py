"""Two finished runs whose answers are the candidates of one choice, question by question (appendix B, table 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice
from dualfocus_eval.analysis.pairing import describe, pair_runs
from dualfocus_eval.analysis.runs import Metrics, Run
from dualfocus_eval.common.errors import UserError

__all__ = ["JOINED_CHOICES", "JoinedRuns", "join_runs", "macro_alone"]

JOINED_CHOICES: Mapping[Choice, str] = {"macro": "A", "micro": "B", "selected": "joined", "oracle": "oracle"}
"""The choices of `JoinedRuns.run`, by what they are called for a reader."""


@dataclass(frozen=True)
class JoinedRuns:
    """The questions that both runs answered, and the answer of lower perplexity to each."""

    run: Run
    """As if A's answers were its macro candidates and B's its micro candidates (`JOINED_CHOICES`)."""
    left_out: Mapping[str, tuple[str, ...]]
    """Why others are not joined, and their keys."""
    other_prompts: tuple[str, ...]
    """Keys of the questions that B was asked in other words than A, or with another system prompt."""


def macro_alone(run: Run) -> Run:
    """The run as if it had answered in one pass: what it selected is its macro answers."""
    macro = {
        "answer": run.answers["macro_text"].str.strip(),
        "score_selected": run.answers["score_macro"],
        "selected": run.answers["selected"].where(run.answers["selected"].isna(), "macro"),
    }
    metrics = {task: {**choices, "selected": choices["macro"]} for task, choices in run.metrics.items()}
    return replace(run, answers=run.answers.assign(**macro), metrics=metrics, computed={})


def join_runs(first: Run, second: Run) -> JoinedRuns:
    """Decide between two runs' answers as ``own_context`` does between two pathways' (Eq. 7 and 8).

    Each answer has the perplexity that it was generated with; the lower one is selected, on a tie the second run's.
    Two prompts may ask the same question. Raises ``UserError`` where the runs are of different tasks, have no question
    in common, no perplexities, or tasks that cannot be scored here.
    """
    _refuse_unlike(first, second)
    pairs = pair_runs(first, second, any_prompt=True)
    rows = [_rows_of(run, pairs.rows["key"]) for run in (first, second)]
    costs = [_nll(part) for part in rows]
    known = ~np.isnan(costs[0]) & ~np.isnan(costs[1])
    keys = pairs.rows["key"].to_numpy()
    left_out = dict(pairs.left_out)
    for letter, cost in zip("AB", costs, strict=True):
        if np.isnan(cost).any():
            left_out[f"without a perplexity in {letter}"] = tuple(keys[np.isnan(cost)])
    if not known.any():
        raise UserError(
            "no question has a perplexity in both runs, so nothing can decide between their answers: "
            f"{describe(left_out)}; join runs of --model dualfocus, with their traces beside them"
        )
    one, two = (part[known] for part in rows)
    take_second = ~(costs[0][known] < costs[1][known])
    clusters = pairs.rows["cluster"].to_numpy()[known]
    asked = [part[["question", "question_digest"]].to_numpy() for part in (one, two)]
    other = (asked[0] != asked[1]).any(axis=1)
    joined = _joined(first, second, one.assign(cluster=clusters), two, take_second)
    return JoinedRuns(joined, left_out, tuple(keys[known][other]))


def _refuse_unlike(first: Run, second: Run) -> None:
    alone = [sorted(set(a.task_names) - set(b.task_names)) for a, b in ((first, second), (second, first))]
    for letter, names in zip("AB", alone, strict=True):
        if names and first.task_names and second.task_names:
            raise UserError(
                f"the runs are of different tasks: only {letter} has {', '.join(names)}; join runs of the same tasks"
            )
    for run in (first, second):
        missing = [task for task in run.task_names if task not in run.tasks]
        if missing:
            raise UserError(
                f"{run.path}: {', '.join(missing)} cannot be loaded here, so joined answers have no score; "
                + "; ".join(str(fault) for fault in run.faults)
            )


def _rows_of(run: Run, keys: Sequence[str]) -> pd.DataFrame:
    """The answers of these questions, in their order, by their place among the run's."""
    places = pd.Series(run.answers.index, index=run.answers["key"])
    return run.answers.loc[places[keys]]


def _nll(rows: pd.DataFrame) -> np.ndarray:
    """Of each answer that the run selected, in the pathway that it came from; (questions,), NaN where not known."""
    micro = (rows["selected"] == "micro").to_numpy()
    found = np.where(micro, rows["micro_nll"].to_numpy(), rows["macro_nll"].to_numpy())
    return np.asarray(np.where(rows["selected"].isna(), np.nan, found), dtype=np.float64)


def _joined(first: Run, second: Run, one: pd.DataFrame, two: pd.DataFrame, take_second: np.ndarray) -> Run:
    """``one`` and ``two`` are the same questions' rows in both runs; of those in ``take_second`` B is selected."""
    scores = [part["score_selected"].to_numpy() for part in (one, two)]
    answers = one.assign(
        answer=np.where(take_second, two["answer"], one["answer"]),
        macro_text=one["answer"],
        micro_text=two["answer"].to_numpy(),
        macro_nll=_nll(one),
        micro_nll=_nll(two),
        selected=pd.Series(np.where(take_second, "micro", "macro"), index=one.index, dtype="str"),
        score_macro=scores[0],
        score_micro=scores[1],
        score_selected=np.where(take_second, scores[1], scores[0]),
    )
    metrics: dict[str, dict[Choice, list[Metrics | None]]] = {}
    for task, rows in answers.groupby("task", sort=False):
        of_first, of_second = (_records(run, str(task), rows["key"]) for run in (first, second))
        chosen = [
            two if where == "micro" else one
            for where, one, two in zip(rows["selected"], of_first, of_second, strict=True)
        ]
        metrics[str(task)] = {"macro": of_first, "micro": of_second, "selected": chosen}
    tasks = {name: first.tasks[name] for name in metrics}
    return Run(first.path, first.results, None, answers.reset_index(drop=True), tasks, metrics)


def _records(run: Run, task: str, keys: Sequence[str]) -> list[Metrics | None]:
    """The task's records of what the run selected, for these questions in their order."""
    places = {key: place for place, key in enumerate(run.of(task)["key"])}
    records = run.records(task, "selected")
    return [records[places[key]] for key in keys]
