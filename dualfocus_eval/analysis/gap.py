"""How much of the gap between the best perplexity rule and the oracle another choice closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import rule_choice, rules_among, scores_of
from dualfocus_eval.analysis.intervals import Estimate, bootstrap
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.method.selection.calibration import is_calibration

__all__ = ["Gap", "both_scored", "gap_closed"]


@dataclass(frozen=True)
class Gap:
    """A choice between the best rule and the oracle, over the same questions."""

    best_rule: str
    """The perplexity rule of the highest mean score on these very questions, which favours it."""
    best: np.ndarray
    """Each question's score under it; (questions,)."""
    oracle: np.ndarray
    closed: Estimate
    """(choice - best) / (oracle - best), with a percentile bootstrap over images; NaN where there is no gap."""


def both_scored(run: Run) -> pd.DataFrame:
    """The questions of which the scores under every choice are known."""
    return run.answers[run.answers["score_macro"].notna() & run.answers["score_micro"].notna()]


def gap_closed(run: Run, rows: pd.DataFrame, scores: np.ndarray) -> Gap:
    """Of ``rows``, whose scores under the choice in question are ``scores``, (questions,)."""
    rules = [rule for rule in rules_among(run.choices) if not is_calibration(rule)]
    under = {rule: scores_of(rows, rule_choice(rule)) for rule in rules}
    best = max(rules, key=lambda rule: float(under[rule].sum()))
    oracle = scores_of(rows, "oracle")
    columns = np.column_stack([scores - under[best], oracle - under[best]])
    closed = bootstrap(columns, rows["cluster"], lambda sums: sums[..., 0] / sums[..., 1])
    return Gap(best, under[best], oracle, closed)
