"""How perplexities are spread, and whether they tell right answers from wrong ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Measured, Table, percent, plain
from tests.integration.recomputed.intervals import jackknife_interval
from tests.integration.recomputed.scores import divisions

__all__ = ["confidence_tables"]

BINS = 10
FEWEST = 10
QUANTILES = {"5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95}


def confidence_tables(run: Answers) -> dict[str, Table]:
    calibration: list[list[Cell]] = []
    spread: list[list[Cell]] = []
    for task, part in run.tasks.items():
        for pathway in ("macro", "micro"):
            known = part[part[f"{pathway}_nll"].notna()]
            if known.empty:
                continue
            confidence, right = np.exp(-known[f"{pathway}_nll"]), known[f"score_{pathway}"] >= 0.5
            answers = pd.DataFrame({"confidence": confidence, "right": right, "image": known["image"]})
            row: list[Cell] = [
                task,
                pathway,
                len(known),
                percent(right.mean()),
                percent(confidence.mean()),
                _auroc(answers),
            ]
            calibration.append([*row, percent(_calibration_error(confidence, right))])
            for category, members in _parts(run, task, known):
                quantiles = np.exp(members[f"{pathway}_nll"].quantile(list(QUANTILES.values())))
                spread.append([task, category, pathway, len(members), *map(plain, quantiles)])
    header = ["task", "pathway", "n", "right %", "mean confidence %", "AUROC %", "calibration error %"]
    return {
        "calibration": Table(header, calibration, [str(FEWEST)] * 2),
        "perplexity": Table(["task", "category", "pathway", "n", *QUANTILES], spread),
    }


def _auroc(answers: pd.DataFrame) -> Measured:
    """With its interval, where there are enough right and enough wrong answers."""
    if answers["right"].value_counts().reindex([True, False], fill_value=0).min() < FEWEST:
        return percent(math.nan)
    return percent(_ranked(answers), jackknife_interval(answers, _ranked, rate=False))


def _ranked(answers: pd.DataFrame) -> float:
    """How often a right answer is more confident than a wrong one, ties counting half: Mann-Whitney's U."""
    right, wrong = (answers["confidence"][answers["right"] == which] for which in (True, False))
    pairs = len(right) * len(wrong)
    return float(stats.mannwhitneyu(right, wrong).statistic) / pairs if pairs else math.nan


def _calibration_error(confidence: pd.Series, right: pd.Series) -> float:
    """Over bins of as equally many questions as can be, the larger ones first, by rising confidence."""
    ordered = pd.DataFrame({"confidence": confidence, "right": right}).sort_values("confidence", kind="stable")
    size, larger = divmod(len(ordered), BINS)
    sizes = [size + (number < larger) for number in range(BINS)]
    bins = ordered.groupby(np.repeat(np.arange(BINS), sizes)).mean()
    distance = (bins["confidence"] - bins["right"]).abs()
    return float((distance * [size for size in sizes if size]).sum() / len(ordered))


def _parts(run: Answers, task: str, known: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All, then the categories of the finest division."""
    finest: Mapping[str, pd.Series] = max(divisions(run, task), key=len, default={})
    parts = [(name, known[members.loc[known.index]]) for name, members in finest.items()]
    return [("all", known), *parts]
