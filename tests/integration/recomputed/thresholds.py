"""What every threshold on the macro answer's NLL would have skipped, scored and saved."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Table, percent, plain, points
from tests.integration.recomputed.cost import second_pass_share

__all__ = ["threshold_tables"]

TOLERANCES, PUBLISHED = (0.1, 0.5), (0.7, 0.8)
KEPT = 50
CLOSE = 1e-9
"""Scores this near are equal."""


def threshold_tables(run: Answers) -> dict[str, Table]:
    named: list[list[Cell]] = []
    curve: list[list[Cell]] = []
    for task, part in run.tasks.items():
        likelihoods = part["macro_nll"]
        if not run.both or not (likelihoods > 0).any():
            continue
        points_of = _curve(part, [0.0, *sorted(set(likelihoods[likelihoods > 0])), math.inf])
        named += _named_rows(task, part, points_of, second_pass_share(run, task))
        curve += _curve_rows(task, points_of)
    if not named:
        return {}
    columns = ["task", "threshold", "NLL", "micro passes skipped %", "score %", "lost points"]
    return {
        "adaptive": Table([*columns, "generated tokens saved %", "time saved % (estimate)"], named),
        "adaptive_curve": Table(
            ["task", "NLL", "micro passes skipped %", "score %", "generated tokens saved %", "Pareto front"], curve
        ),
    }


def _curve(part: pd.DataFrame, thresholds: list[float]) -> pd.DataFrame:
    """Columns ``threshold``, ``skipped`` (of micro passes), ``score`` and ``saved`` (of all tokens); from 0 to 1."""
    skip = part["macro_nll"].to_numpy() < np.array(thresholds)[:, None]  # (thresholds, questions)
    selected = np.where(part["selected"] == "micro", part["score_micro"], part["score_macro"])
    passes, tokens = part["micro_text"].notna(), part[["macro_tokens", "micro_tokens", "box_tokens"]]
    return pd.DataFrame({
        "threshold": thresholds,
        "skipped": (skip & passes.to_numpy()).sum(axis=1) / max(1, passes.sum()),
        "score": np.where(skip, part["score_macro"], selected).mean(axis=1),
        "saved": np.where(skip, part["micro_tokens"].fillna(0), 0).sum(axis=1) / tokens.sum().sum(),
    })  # fmt: skip


def _named_rows(task: str, part: pd.DataFrame, curve: pd.DataFrame, share: float) -> list[list[Cell]]:
    full = curve["score"].iloc[0]
    found = {"none (full run)": curve.iloc[0]}
    found |= {f"table 9: {nll}": _curve(part, [nll]).iloc[0] for nll in PUBLISHED}
    for tolerance in TOLERANCES:
        found[f"within {tolerance} points"] = curve[curve["score"] >= full - tolerance / 100 - CLOSE].iloc[-1]
    found["all (macro)"] = curve.iloc[-1]
    return [
        [
            task, name, _nll(row["threshold"]), percent(row["skipped"]), percent(row["score"]),
            points(full - row["score"]), percent(row["saved"]), percent(share * row["skipped"]),
        ]
        for name, row in found.items()
    ]  # fmt: skip


def _curve_rows(task: str, curve: pd.DataFrame) -> list[list[Cell]]:
    """The Pareto front, what is named, and every so-manieth of the rest."""
    front = np.array([_unbeaten(place, curve) for place in curve.index])
    last, full = len(curve) - 1, curve["score"].iloc[0]
    kept = {round(place) for place in np.linspace(0, last, min(last, KEPT) + 1)} | set(np.flatnonzero(front))
    kept |= {int((curve["threshold"] < nll).sum()) for nll in PUBLISHED}
    kept |= {curve.index[curve["score"] >= full - tolerance / 100 - CLOSE][-1] for tolerance in TOLERANCES}
    return [
        [
            task, _nll(row["threshold"]), percent(row["skipped"]), percent(row["score"]), percent(row["saved"]),
            "yes" if front[place] else "",
        ]
        for place, row in curve.iterrows()
        if place in kept
    ]  # fmt: skip


def _unbeaten(place: int, curve: pd.DataFrame) -> bool:
    """Whether no other threshold skips as much and scores as well; of equal ones the highest stays."""
    one, skipped, score = curve.loc[place], curve["skipped"], curve["score"]
    good = (skipped >= one["skipped"] - CLOSE) & (score >= one["score"] - CLOSE)
    better = (skipped > one["skipped"] + CLOSE) | (score > one["score"] + CLOSE) | (curve.index > place)
    return not (good & better).any()


def _nll(threshold: float) -> Cell:
    return plain(threshold) if math.isfinite(threshold) else "infinite"
