"""Adaptive inference after the fact (appendix C, table 9): what every threshold on the macro answer's NLL would do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.intervals import are_shares
from dualfocus_eval.analysis.measures import scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.sections.cost import second_pass_share
from dualfocus_eval.report.style import COLORS, GREY, panels

__all__ = ["Curve", "adaptive_curve", "cheapest_within", "kept_points", "threshold_section"]

TOLERANCES = (0.1, 0.5)
"""Points of the score that may be lost for the thresholds that the report names."""
PUBLISHED = (0.7, 0.8)
"""The thresholds of table 9; as PPL they would never be reached, so they are NLL."""
_CURVE_POINTS = 50
_DRAWN_POINTS = 500


@dataclass(frozen=True)
class Curve:
    """What thresholds do, from none (0) to all (infinite), rising; every array is (thresholds,)."""

    threshold: np.ndarray
    """The micro pathway is skipped where the macro answer's NLL is below it."""
    skipped: np.ndarray
    """Share of the micro passes."""
    score: np.ndarray
    """Mean score; a point is a hundredth."""
    tokens_saved: np.ndarray
    """Share of all generated tokens: box, macro and micro answers."""

    @cached_property
    def front(self) -> np.ndarray:
        """Which thresholds no other beats in both share skipped and score; (thresholds,) of bool."""
        # Read from the most passes skipped to the fewest: each point must score higher than all before it.
        score = self.score[::-1]
        best = np.maximum.accumulate(np.concatenate([[-math.inf], score[:-1]]))
        return np.asarray((score > best + 1e-12)[::-1])

    @cached_property
    def named(self) -> dict[str, int]:
        """The thresholds that the report names, by name: the place of each.

        One of `PUBLISHED` stands at the first threshold that is not below it: between two, nothing changes.
        """
        named = {"none (full run)": 0}
        named |= {f"table 9: {nll}": int(np.searchsorted(self.threshold, nll)) for nll in PUBLISHED}
        named |= {f"within {tolerance} points": cheapest_within(self, tolerance) for tolerance in TOLERANCES}
        return named | {"all (macro)": len(self.threshold) - 1}


def adaptive_curve(rows: pd.DataFrame) -> Curve:
    """Every threshold that changes anything, for questions with a ``score_selected``, ``score_macro`` and NLL.

    The box is still asked for, as with the model argument ``adaptive_nll``; a question without a micro candidate has no
    pass to skip.
    """
    rows = rows[rows["score_selected"].notna()].sort_values("macro_nll", kind="stable", na_position="last")
    nll = rows["macro_nll"].to_numpy()
    known = ~np.isnan(nll) & rows["score_macro"].notna().to_numpy()
    rows, nll = rows[known], nll[known]
    has_micro = rows["micro_text"].notna().to_numpy()
    selected = rows["score_selected"].to_numpy()
    micro_tokens = np.where(has_micro, np.nan_to_num(rows["micro_tokens"].to_numpy()), 0.0)
    tokens = micro_tokens + np.nan_to_num(rows[["macro_tokens", "box_tokens"]].to_numpy()).sum(axis=1)
    threshold = np.concatenate([[0.0], np.unique(nll[nll > 0]), [math.inf]])
    below = np.searchsorted(nll, threshold, side="left")  # (thresholds,) questions whose pass is skipped

    def share(values: np.ndarray, total: float) -> np.ndarray:
        sums = np.concatenate([[0.0], np.cumsum(values)])[below]
        return np.asarray(sums / total if total else np.zeros(len(below)))

    change = share(rows["score_macro"].to_numpy() - selected, len(rows))
    base = float(selected.mean()) if len(rows) else math.nan
    return Curve(
        threshold, share(has_micro, float(has_micro.sum())), base + change, share(micro_tokens, float(tokens.sum()))
    )


def cheapest_within(curve: Curve, tolerance: float) -> int:
    """The place of the highest threshold whose score is at most ``tolerance`` points below that of the full run."""
    good = curve.score >= curve.score[0] - tolerance / 100 - 1e-12
    return int(np.flatnonzero(good)[-1])


def kept_points(curve: Curve) -> np.ndarray:
    """Places of the points that the data hold: the Pareto front, the named thresholds, and some of the rest, evenly."""
    last = len(curve.threshold) - 1
    some = np.linspace(0, last, min(last, _CURVE_POINTS) + 1).round().astype(int)
    return np.unique(np.concatenate([some, np.flatnonzero(curve.front), [*curve.named.values()]]))


def threshold_section(run: Run) -> Section:
    """For each task the full run, the cheapest thresholds within `TOLERANCES`, and macro alone; the curve as data."""
    text = (
        "The micro pass is skipped if the macro answer's NLL is below the threshold (model argument "
        "adaptive_nll); grounding takes place all the same. The paper's thresholds of table 9 (0.7, 0.8) are read "
        "as NLL, since a PPL is never below 1. Scores are means over questions (for MMBench over rows, not "
        "circular). A threshold that is chosen on the questions it is judged by looks better than it is: choose "
        "it on one set and use it on another. Time saved is an estimate from the task's crops and tokens and the "
        "run's seconds per phase. Generated tokens are those of boxes, macro and micro answers. Prompt tokens "
        "saved are not known, since engines count them per batch."
    )
    if "oracle" not in run.choices:
        return Section("adaptive", "Adaptive inference", text)
    curves = {task: adaptive_curve(run.of(task)) for task in run.task_names}
    curves = {task: curve for task, curve in curves.items() if len(curve.threshold) > 2}
    if not curves:
        return Section("adaptive", "Adaptive inference", text)
    shares = {task: are_shares(run.of(task)[["score_macro", "score_selected"]]) for task in curves}
    own = scale_notes([task for task in curves if not shares[task]])
    header = ("task", "threshold", "NLL", "micro passes skipped %", "score %", "lost points",
              "generated tokens saved %", "time saved % (estimate)")  # fmt: skip
    rows = tuple(
        tuple(_named(task, curve, shares[task], second_pass_share(run, task))) for task, curve in curves.items()
    )
    data = ("task", "NLL", "micro passes skipped %", "score %", "generated tokens saved %", "Pareto front")
    points = tuple(tuple(_points(task, curve, shares[task])) for task, curve in curves.items())
    caption = (
        "Score against the share of skipped micro passes. Dots: the Pareto front. Squares: the cheapest "
        "thresholds within 0.1 and 0.5 points of the full run."
    )
    return Section(
        "adaptive",
        "Adaptive inference",
        text,
        {"adaptive": Table("Thresholds", header, rows, own)},
        {"adaptive": Drawing(caption, lambda: _draw(curves, shares))},
        {"adaptive_curve": Table("Adaptive curve", data, points, own)},
    )


def _named(task: str, curve: Curve, is_share: bool, second_pass: float) -> list[tuple[Cell, ...]]:
    given = {f"table 9: {nll}": nll for nll in PUBLISHED}
    return [
        (
            task, name, _nll(given.get(name, curve.threshold[place])), _percent(curve.skipped[place]),
            _score(curve.score[place], is_share), _score(curve.score[0] - curve.score[place], is_share, "points"),
            _percent(curve.tokens_saved[place]), _percent(second_pass * curve.skipped[place]),
        )
        for name, place in curve.named.items()
    ]  # fmt: skip


def _points(task: str, curve: Curve, is_share: bool) -> list[tuple[Cell, ...]]:
    return [
        (
            task, _nll(curve.threshold[place]), _percent(curve.skipped[place]), _score(curve.score[place], is_share),
            _percent(curve.tokens_saved[place]), "yes" if curve.front[place] else "",
        )
        for place in kept_points(curve)
    ]  # fmt: skip


def _nll(threshold: float) -> Cell:
    return Number(float(threshold), decimals=4) if math.isfinite(threshold) else "infinite"


def _score(score: float, is_share: bool, unit: str = "%") -> Number:
    return Number(100 * float(score), unit=unit) if is_share else Number(float(score), decimals=4)


def _percent(share: float) -> Number:
    return Number(100 * float(share), unit="%")


def _draw(curves: dict[str, Curve], shares: dict[str, bool]) -> Any:
    figure, axes = panels(len(curves))
    for axis, (task, curve) in zip(axes, curves.items(), strict=True):
        line, front = (
            places[np.unique(np.linspace(0, len(places) - 1, _DRAWN_POINTS).round().astype(int))]
            for places in (np.arange(len(curve.score)), np.flatnonzero(curve.front))
        )
        scale, unit = (100, ", %") if shares[task] else (1, "")
        axis.plot(100 * curve.skipped[line], scale * curve.score[line], color=GREY, linewidth=0.9)
        axis.plot(100 * curve.skipped[front], scale * curve.score[front], ".", color=COLORS["macro"], markersize=2.5)
        for tolerance in TOLERANCES:
            place = curve.named[f"within {tolerance} points"]
            axis.plot(
                100 * curve.skipped[place], scale * curve.score[place], "s", color=COLORS["micro"], markersize=4.5
            )
        low, high = axis.get_ylim()
        if high - low < scale / 50:
            axis.set_ylim((low + high) / 2 - scale / 100, (low + high) / 2 + scale / 100)
        axis.set_xlabel("micro passes skipped, %", fontsize=8)
        axis.set_ylabel(f"score{unit}", fontsize=8)
        axis.set_title(figure_text(task), fontsize=9)
    return figure
