"""How perplexities are spread, and whether they tell right answers from wrong ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Table, percent, plain
from tests.integration.recomputed.scores import divisions

__all__ = ["confidence_tables"]

BINS = 10
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
            values = (right.mean(), confidence.mean(), _auroc(confidence, right), _calibration_error(confidence, right))
            calibration.append([task, pathway, len(known), *map(percent, values)])
            for category, members in _parts(run, task, known):
                quantiles = np.exp(members[f"{pathway}_nll"].quantile(list(QUANTILES.values())))
                spread.append([task, category, pathway, len(members), *map(plain, quantiles)])
    header = ["task", "pathway", "n", "right %", "mean confidence %", "AUROC %", "calibration error %"]
    return {
        "calibration": Table(header, calibration),
        "perplexity": Table(["task", "category", "pathway", "n", *QUANTILES], spread),
    }


def _auroc(confidence: pd.Series, right: pd.Series) -> float:
    """How often a right answer is more confident than a wrong one, ties counting half: Mann-Whitney's U."""
    if right.all() or not right.any():
        return math.nan
    found = stats.mannwhitneyu(confidence[right], confidence[~right])
    return float(found.statistic / (right.sum() * (~right).sum()))


def _calibration_error(confidence: pd.Series, right: pd.Series) -> float:
    """Over bins of as equally many questions as can be, the larger ones first, by rising confidence."""
    ordered = pd.DataFrame({"confidence": confidence, "right": right}).sort_values("confidence", kind="stable")
    size, larger = divmod(len(ordered), BINS)
    sizes = [size + (number < larger) for number in range(BINS)]
    bins = ordered.groupby(np.repeat(np.arange(BINS), sizes)).mean()
    distance = (bins["confidence"] - bins["right"]).abs()
    return float((distance * [size for size in sizes if size]).sum() / len(ordered))


def _parts(run: Answers, task: str, known: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All, then the categories of the finest division that have any."""
    finest: Mapping[str, pd.Series] = max(divisions(run, task), key=len, default={})
    parts = [(name, known[members.loc[known.index]]) for name, members in finest.items()]
    return [("all", known), *((name, part) for name, part in parts if len(part))]
