"""What a calibrated choice is worth on images that it was not fitted on: the gap to the oracle that it closes."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from dualfocus_eval.analysis.calibrated import unseen
from dualfocus_eval.analysis.choices import rule_choice, scores_of
from dualfocus_eval.analysis.gap import both_scored, gap_closed
from dualfocus_eval.analysis.intervals import are_shares
from dualfocus_eval.analysis.measures import points, rate, shown
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import INTERVALS

__all__ = ["calibration_section"]

_TITLE = "Calibrated choice"
_HEADER = (
    "task", "n", "images", "best rule", "score", "calibrated", "oracle", "calibrated - best", "calibrated - macro",
    "calibrated - micro", "gap closed",
)  # fmt: skip


def calibration_section(run: Run) -> Section:
    """The choice against the best perplexity rule and the oracle, by task and over all; and what it weighs."""
    if run.calibration is None or "oracle" not in run.choices:
        return Section("calibrated_choice", _TITLE, "")
    rows = both_scored(run)
    rows = rows[[are_shares(run.of(task)[["score_macro", "score_micro"]]) for task in rows["task"]]]
    new = rows[unseen(run, rows)]
    seen = len(rows) - len(new)
    text = (
        f"{run.calibration.name} was fitted by `dualfocus calibrate`. It is judged on questions about images that it "
        f"was not fitted on; left out are {seen:,} of {len(rows):,} questions."
    )
    if new.empty:
        text += " So this run does not judge it: run it on other images."
        return Section("calibrated_choice", _TITLE, text, {"calibrated_weights": _terms(run.calibration)})
    tasks = tuple(_row(run, str(task), of_task) for task, of_task in new.groupby("task", sort=False))
    notes = (
        INTERVALS,
        "best rule: the perplexity rule of the highest score on the same questions. gap closed: (calibrated - best) / "
        "(oracle - best), with a bootstrap interval; omitted without a gap.",
    )
    table = Table("Gap closed by the calibrated choice (%)", _HEADER, (tasks, (_row(run, "all", new),)), notes)
    return Section(
        "calibrated_choice", _TITLE, text, {"calibrated_choice": table, "calibrated_weights": _terms(run.calibration)}
    )


def _row(run: Run, name: str, rows: pd.DataFrame) -> tuple[Cell, ...]:
    assert run.calibration
    clusters, scores = rows["cluster"], scores_of(rows, rule_choice(run.calibration.name))
    gap = gap_closed(run, rows, scores)
    closed = Number(math.nan) if math.isnan(gap.closed.value) else replace(shown(gap.closed, share=True), unit="%")
    return (
        name,
        len(rows),
        clusters.nunique(),
        gap.best_rule,
        rate(gap.best, clusters),
        rate(scores, clusters),
        rate(gap.oracle, clusters),
        points(gap.best, scores, clusters),
        points(scores_of(rows, "macro"), scores, clusters),
        points(scores_of(rows, "micro"), scores, clusters),
        closed,
    )


def _terms(calibration: Calibration) -> Table:
    """What speaks for the micro answer."""
    fits = calibration.kinds
    weights = {kind: {term.feature: term.coefficient for term in fit.terms} for kind, fit in fits.items()}
    features = dict.fromkeys(name for of_kind in weights.values() for name in of_kind)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, *(Number(of_kind.get(name, math.nan), decimals=2) for of_kind in weights.values())) for name in features
    )
    constant: tuple[Cell, ...] = ("constant", *(Number(fit.intercept, decimals=2) for fit in fits.values()))
    notes = (
        "By kind of the answers: the change of the log-odds that the micro answer is the better one, for one standard "
        "deviation; constant: the log-odds where all features have their means. own: in each answer's own pathway; "
        "context: both in the micro pathway's; NLL in nats, difference: macro - micro; box_nll: logarithm of the NLL "
        "of the box's text.",
        f"Fitted on {', '.join(calibration.tasks)}; model {calibration.model}.",
    )
    return Table("What the calibrated choice weighs", ("feature", *fits), (rows, (constant,)), notes)
