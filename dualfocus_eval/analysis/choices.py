"""What can be taken as the answer of a run that has both candidates, and what each choice scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.rows import compared_columns, pick_column
from dualfocus_eval.method.selection import RULES, Decision, Rule

__all__ = [
    "CHOICES", "RULE_WORDS", "Choice", "available_choices", "deciding_nlls", "decision_words", "picked_micro",
    "rule_choice", "scores_of",
]  # fmt: skip

Choice = Literal["macro", "micro", "own rule", "micro rule", "released rule", "selected", "oracle"]
CHOICES: tuple[Choice, ...] = ("macro", "micro", "own rule", "micro rule", "released rule", "selected", "oracle")
"""One pathway, what a rule selects, what the run selected, or the better of both pathways."""

_RULE_CHOICES: dict[Rule, Choice] = {"own": "own rule", "micro": "micro rule", "released": "released rule"}
_RULES = {choice: rule for rule, choice in _RULE_CHOICES.items()}


RULE_WORDS: Mapping[Rule, str] = {
    "own": "each answer in its own pathway",
    "micro": "both answers in the micro pathway's context",
    "released": "box and answer together, both in the micro pathway's context",
}
"""Whose perplexities a rule compares."""
_DECISION_WORDS: Mapping[str, str] = {
    Decision.NLL: "perplexity",
    Decision.AGREEMENT: "same answer",
    Decision.ONLY_VALID_OPTION: "only one names an option",
    Decision.NO_VALID_OPTION: "neither names an option",
    Decision.ONLY_CANDIDATE: "only one answer",
    Decision.NO_SCORES: "perplexities not known",
}


def decision_words(row: Mapping[str, Any]) -> str:
    """What decided between the candidates of a row of answers; empty where the trace does not say."""
    return _DECISION_WORDS.get(str(row["decision"]), "")


def deciding_nlls(row: Mapping[str, Any], rule: Rule) -> tuple[float, float]:
    """The mean NLLs of the macro and the micro candidate that ``rule`` compared; NaN where something else decided."""
    if row["decision"] != Decision.NLL:
        return math.nan, math.nan
    macro, micro = compared_columns(rule)
    return float(row[macro]), float(row[micro])


def rule_choice(rule: Rule) -> Choice:
    """The choice that a selection rule makes."""
    return _RULE_CHOICES[rule]


def available_choices(settings: Mapping[str, Any]) -> tuple[Choice, ...]:
    """The choices that a run with these settings has the candidates and the scores for; ``selected`` always."""
    if settings["strategy"] != "dualfocus":
        return ("selected",)
    if settings["adaptive_nll"] is not None:
        return ("macro", "selected")
    scored = settings["score_all"] or settings["selection"] != "own"
    rules = [rule_choice(rule) for rule in RULES if rule == "own" or scored]
    return ("macro", "micro", *rules, "selected", "oracle")


def picked_micro(answers: pd.DataFrame, choice: Choice) -> np.ndarray:
    """Whether ``choice`` takes the micro candidate, question by question; (questions,) of bool.

    Without a micro candidate every choice falls back to macro, as the micro pathway does when it runs alone; a rule
    without its scores takes macro; the oracle takes micro only where that scores higher.
    """
    has_micro: np.ndarray = np.asarray(answers["micro_text"].notna(), dtype=bool)
    if choice == "macro":
        return np.zeros(len(answers), dtype=bool)
    if choice == "micro":
        return has_micro
    if choice == "oracle":
        taken = answers["score_micro"] > answers["score_macro"]
    else:
        taken = answers["selected" if choice == "selected" else pick_column(_RULES[choice])] == "micro"
    return np.asarray(has_micro & taken, dtype=bool)


def scores_of(answers: pd.DataFrame, choice: Choice) -> np.ndarray:
    """Each question's score (1 is right) under ``choice``; (questions,), NaN where it cannot be told."""
    if choice == "selected":
        return np.asarray(answers["score_selected"])
    return np.asarray(np.where(picked_micro(answers, choice), answers["score_micro"], answers["score_macro"]))
