"""Perplexities: how they are spread (figure 3), and whether they say which answers are right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.categories import partitions
from dualfocus_eval.analysis.intervals import are_shares, jackknife
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.sections.strategies import INTERVALS
from dualfocus_eval.report.style import COLORS, GREY, panels
from dualfocus_eval.traces.record import Pathway

__all__ = ["confidence_section"]

_PATHWAYS: tuple[Pathway, ...] = ("macro", "micro")
_BINS = 10
_MOST_PANELS = 12
_FEWEST = 10
"""Right answers, and wrong ones, below which no AUROC is shown."""


def confidence_section(run: Run) -> Section:
    """Distributions of PPL per task and category, and the calibration of both pathways."""
    text = (
        "PPL is the exponential of the mean negative log-likelihood per answer token, end token included, in the "
        "candidate's own pathway. Confidence is 1 / PPL. AUROC shows how well confidence separates right from "
        "wrong answers; 50 is chance. Calibration error is the mean distance between confidence and the share of "
        "right answers, over ten bins with equally many questions. An answer is right from a score of 0.5; scores "
        "that are not shares are left out."
    )
    spread, calibration = [], []
    for task in run.task_names:
        rows = run.of(task)
        for pathway in _PATHWAYS:
            known = _known(rows, pathway)
            if known.empty:
                continue
            if are_shares(known[f"score_{pathway}"]):
                calibration.append(_calibration_row(task, pathway, known))
            spread += [_spread_row(task, name, pathway, part) for name, part in _parts(run, task, pathway)]
    if not spread:
        return Section("confidence", "Perplexity and calibration", text)
    quantiles = ("n", "5%", "25%", "median", "75%", "95%")
    header = ("task", "pathway", "n", "right %", "mean confidence %", "AUROC %", "calibration error %")
    tables = {
        "perplexity": Table("PPL by category", ("task", "category", "pathway", *quantiles), (tuple(spread),)),
    }
    if calibration:
        few = f"AUROC is omitted with fewer than {_FEWEST} right or fewer than {_FEWEST} wrong answers."
        notes = (INTERVALS, few)
        tables = {"calibration": Table("Calibration", header, (tuple(calibration),), notes)} | tables
    caption = "PPL of macro and micro answers. The line in each box is the median; whiskers span 5% to 95%."
    figures = {
        "perplexity": Drawing(caption, lambda: _draw_spread(run)),
    }
    if calibration:
        perfect = (
            "Share of right answers against confidence, in ten bins with equally many questions. The "
            "diagonal is perfect."
        )
        figures["reliability"] = Drawing(perfect, lambda: _draw_reliability(run))
    return Section("confidence", "Perplexity and calibration", text, tables, figures)


def auroc(nll: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve of -NLL as a sign of being right; NaN where all are right or all are wrong."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(right, -nll)) if 0 < right.sum() < len(right) else math.nan


def reliability(nll: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean confidence, share right, questions) of each of `_BINS` bins of equally many questions, by confidence."""
    confidence = np.exp(-nll)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(_BINS, len(nll)))
    means = [(confidence[part].mean(), right[part].mean(), len(part)) for part in parts]
    return tuple(np.array(column) for column in zip(*means, strict=True))  # type: ignore[return-value]


def _known(rows: pd.DataFrame, pathway: Pathway) -> pd.DataFrame:
    """The questions whose candidate of this pathway has both an NLL and a score."""
    return rows[rows[f"{pathway}_nll"].notna() & rows[f"score_{pathway}"].notna()]


def _columns(known: pd.DataFrame, pathway: Pathway) -> tuple[np.ndarray, np.ndarray]:
    return known[f"{pathway}_nll"].to_numpy(), (known[f"score_{pathway}"] >= 0.5).to_numpy()


def _calibration_row(task: str, pathway: Pathway, known: pd.DataFrame) -> tuple[Cell, ...]:
    nll, right = _columns(known, pathway)
    confidence, share, count = reliability(nll, right)
    error = float(np.abs(confidence - share) @ count / count.sum())
    means = (Number(100 * float(value), unit="%") for value in (right.mean(), np.exp(-nll).mean()))
    ranked = _auroc(nll, right, known["cluster"].to_numpy())
    return (task, pathway, len(known), *means, ranked, Number(100 * error, unit="%"))


def _auroc(nll: np.ndarray, right: np.ndarray, clusters: np.ndarray) -> Number:
    """In per cent, with a jackknife's interval; NaN with few right or few wrong answers."""
    if min(right.sum(), len(right) - right.sum()) < _FEWEST:
        return Number(math.nan, unit="%")
    found = jackknife(clusters, lambda kept: auroc(nll[kept], right[kept]))
    return Number(100 * found.value, 100 * max(found.low, 0.0), 100 * min(found.high, 1.0), "%")


def _parts(run: Run, task: str, pathway: Pathway) -> Iterator[tuple[str, pd.DataFrame]]:
    """All of a task's answers, then each category of its finest partition."""
    rows = run.of(task)
    yield "all", _known(rows, pathway)
    columns = run.columns(task, "selected")
    for name in max(partitions(run, task), key=len, default=[]):
        yield name, _known(rows.iloc[columns[name][0]], pathway)


def _spread_row(task: str, name: str, pathway: Pathway, known: pd.DataFrame) -> tuple[Cell, ...]:
    nll = known[f"{pathway}_nll"] if len(known) else [math.nan]
    values = np.exp(np.quantile(nll, [0.05, 0.25, 0.5, 0.75, 0.95]))
    return (task, name, pathway, len(known), *(Number(float(value), decimals=3) for value in values))


def _plotted(run: Run) -> list[str]:
    tasks = [task for task in run.task_names if any(len(_known(run.of(task), pathway)) for pathway in _PATHWAYS)]
    return tasks[:_MOST_PANELS]


def _draw_spread(run: Run) -> Any:
    tasks = _plotted(run)
    figure, axes = panels(len(tasks), height=3.0)
    for axis, task in zip(axes, tasks, strict=True):
        parts = {pathway: dict(_parts(run, task, pathway)) for pathway in _PATHWAYS}
        names = [name for name in parts["macro"] if any(len(found[name]) for found in parts.values())]
        for offset, (pathway, found) in enumerate(parts.items()):
            for place, name in enumerate(names):
                if len(found[name]):
                    _box(axis, np.exp(found[name][f"{pathway}_nll"].to_numpy()), place + 0.36 * (offset - 0.5), pathway)
        axis.set_yticks(range(len(names)), [figure_text(name.replace("_", " ")) for name in names], fontsize=7)
        axis.set_ylim(max(len(names), 3) - 0.5, -0.6)
        _scale(axis)
        axis.set_xlabel("PPL (macro above, micro below)", fontsize=8)
        axis.set_title(figure_text(task), fontsize=9)
    return figure


def _scale(axis: Any) -> None:
    """A log axis with a few plain numbers."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    high = axis.get_xlim()[1]
    steps = (1, 1.1, 1.2, 1.3) if high < 1.5 else (1, 1.5, 2, 3, 4) if high < 6 else (1, 2, 5, 10, 20, 50, 100, 1000)
    axis.xaxis.set_major_locator(FixedLocator([step for step in steps if step <= high]))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _box(axis: Any, values: np.ndarray, place: float, pathway: Pathway) -> None:
    axis.boxplot(
        values, positions=[place], orientation="horizontal", widths=0.3, whis=(5, 95), showfliers=False,
        patch_artist=True, manage_ticks=False, medianprops={"color": "white"},
        boxprops={"facecolor": COLORS[pathway], "edgecolor": COLORS[pathway]},
        whiskerprops={"color": COLORS[pathway]}, capprops={"color": COLORS[pathway]},
    )  # fmt: skip


def _draw_reliability(run: Run) -> Any:
    tasks = [task for task in _plotted(run) if are_shares(run.of(task)[["score_macro", "score_micro"]])]
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        axis.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for pathway in _PATHWAYS:
            known = _known(run.of(task), pathway)
            if not known.empty:
                confidence, share, _ = reliability(*_columns(known, pathway))
                line = {"color": COLORS[pathway], "label": pathway, "linewidth": 1.2, "markersize": 3}
                axis.plot(100 * confidence, 100 * share, "o-", **line)
        axis.set(xlim=(0, 102), ylim=(-2, 102))
        axis.set_xlabel("confidence, %", fontsize=8)
        axis.set_ylabel("right, %", fontsize=8)
        axis.set_title(figure_text(task), fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    return figure
