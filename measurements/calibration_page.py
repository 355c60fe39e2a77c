"""The tables of docs/calibration.md: what the choice that decided a run is worth there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, heading, rule_choice, scores_of
from dualfocus_eval.analysis.gap import both_scored, gap_closed
from dualfocus_eval.analysis.intervals import Estimate, bootstrap
from dualfocus_eval.analysis.measures import points, rate, shown
from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.method.selection.calibration import Calibration

__all__ = ["tables"]

_POPE = "df_pope_mini_"


def tables(place: Path, calibration: Calibration | None = None) -> dict[str, Table]:
    """By name, of the run at ``place``, which its calibrated choice decided, or which ``calibration`` is to judge."""
    run = read_run(place, calibration=calibration)
    if run.calibration is None or any(map(run.calibration.has_seen, run.answers["cluster"])):
        raise SystemExit(f"{place}: no calibrated choice decided this run, or one that was fitted on its images")
    return {"calibrated choice": _scores(run), "calibrated choice in pope": _pope(run)}


def _scores(run: Run) -> Table:
    """Score of each choice, and what the calibrated one adds to it."""
    assert run.calibration
    own, rows = rule_choice(run.calibration.name), both_scored(run)
    clusters, scores = rows["cluster"], scores_of(rows, own)
    gap = gap_closed(run, rows, scores)
    table: list[tuple[Cell, ...]] = []
    for choice in run.choices:
        if choice not in (own, "selected"):
            under = scores_of(rows, choice)
            table.append((heading(choice), rate(under, clusters), points(under, scores, clusters)))
    table.append(("calibrated choice", rate(scores, clusters), None))
    note = (
        f"{len(rows):,} questions about {clusters.nunique():,} images, none of them in the fit. In brackets: 95% "
        f"interval, clustered by image. The choice closes {shown(gap.closed, share=True)}% of the gap between "
        f"{gap.best_rule}, the best rule here, and the oracle."
    )
    return Table("", ("", "score (%)", "calibrated choice less this (points)"), (tuple(table),), (note,))


def _pope(run: Run) -> Table:
    """F1 of each choice on each split of POPE, and what the calibrated choice adds to macro's."""
    assert run.calibration
    own = rule_choice(run.calibration.name)
    choices: dict[Choice, str] = {choice: heading(choice) for choice in run.choices if choice not in (own, "selected")}
    choices |= {own: "calibrated"}
    rows: list[tuple[Cell, ...]] = []
    for task in (name for name in run.task_names if name.startswith(_POPE)):
        answers = run.of(task)
        found = (Number(100 * f1(answers, choice).value) for choice in choices)
        rows.append((task.removeprefix(_POPE), len(answers), *found, shown(gain(answers, own), share=True)))
    header = ("split", "n", *choices.values(), "calibrated - macro")
    note = "F1 (%). In brackets: 95% bootstrap interval over images, of the difference in points."
    return Table("", header, (tuple(rows),), (note,))


def f1(answers: pd.DataFrame, choice: Choice) -> Estimate:
    """Of the answers yes."""
    return bootstrap(_outcomes(answers, choice), answers["cluster"], _f1)


def gain(answers: pd.DataFrame, choice: Choice) -> Estimate:
    """F1 of ``choice`` less macro's, on the same draws."""
    columns = np.column_stack([_outcomes(answers, choice), _outcomes(answers, "macro")])
    return bootstrap(columns, answers["cluster"], lambda sums: _f1(sums[..., :2]) - _f1(sums[..., 2:]))


def _outcomes(answers: pd.DataFrame, choice: Choice) -> np.ndarray:
    """True positives and wrong answers; (questions, 2)."""
    right, present = scores_of(answers, choice) > 0, (answers["target"].astype(str) == "yes").to_numpy()
    return np.column_stack([right & present, ~right]).astype(float)


def _f1(sums: np.ndarray) -> np.ndarray:
    return np.asarray(2 * sums[..., 0] / (2 * sums[..., 0] + sums[..., 1]))
