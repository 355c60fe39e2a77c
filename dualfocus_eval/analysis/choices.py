"""What can be taken as the answer of a run that has both candidates, and what each choice scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.rows import cost_columns, pick_column, picked_rules
from dualfocus_eval.method.selection import RULES, label_of, needs_of
from dualfocus_eval.method.selection.base import Need
from dualfocus_eval.method.selection.calibration import is_calibration
from dualfocus_eval.traces.record import Decision

__all__ = [
    "Choice", "available_choices", "deciding_costs", "decision_words", "heading", "picked_micro", "rule_choice",
    "rule_notes", "rules_among", "scores_of",
]  # fmt: skip

Choice = str
"""``macro`` or ``micro``: one pathway. ``selected``: what the run selected. ``oracle``: the better of both pathways.
``rule:NAME``: what a selection rule picks."""
_RULE = "rule:"

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


def deciding_costs(row: Mapping[str, Any], rule: str) -> tuple[float, float]:
    """The costs of both candidates, macro and micro, that the rule compared, in nats; NaN where it did not decide or is
    not installed here."""
    if row["decision"] != Decision.NLL:
        return math.nan, math.nan
    macro, micro = cost_columns(rule)
    return float(row.get(macro, math.nan)), float(row.get(micro, math.nan))


def rule_choice(rule: str) -> Choice:
    """The choice that the selection rule of that name makes."""
    return f"{_RULE}{rule}"


def rules_among(choices: Iterable[Choice]) -> tuple[str, ...]:
    """The names of the selection rules among ``choices``."""
    return tuple(choice.removeprefix(_RULE) for choice in choices if choice.startswith(_RULE))


def heading(choice: Choice) -> str:
    """How tables name a choice: a rule by its name, which is what a user writes."""
    return choice.removeprefix(_RULE)


def rule_notes(rules: Iterable[str]) -> tuple[str, ...]:
    """What the rules compare, and which of them are not installed here."""
    labels = {rule: label_of(rule) for rule in rules}
    compared = " ".join(f"{rule}: {label}." for rule, label in labels.items() if label)
    missing = ", ".join(rule for rule, label in labels.items() if not label)
    notes = (
        f"A rule selects the answer with the lower perplexity. {compared}" if compared else "",
        f"Not installed here, and known only by the picks in the traces: {missing}." if missing else "",
    )
    return tuple(note for note in notes if note)


def available_choices(settings: Mapping[str, Any], answers: pd.DataFrame) -> tuple[Choice, ...]:
    """The choices that a run has the candidates for, and of the rules those whose needs it recorded.

    ``selected`` is always there, and the rule that decided wherever there are two candidates.
    """
    if settings["strategy"] != "dualfocus":
        return ("selected",)
    if settings["adaptive_nll"] is not None:
        return ("macro", "selected")
    deciding, recorded = settings["selection"], _recorded(settings, answers)
    installed = [rule.name for rule in RULES if recorded.issuperset(rule.needs) or rule.name == deciding]
    others = [rule for rule in (*picked_rules(answers.columns), deciding) if rule not in RULES]
    rules = dict.fromkeys([*installed, *others])
    return ("macro", "micro", *map(rule_choice, rules), "selected", "oracle")


def _recorded(settings: Mapping[str, Any], answers: pd.DataFrame) -> set[Need]:
    """What a run computed beside the two answers."""
    found: set[Need] = set()
    deciding = settings["selection"]
    needed = (deciding in RULES or is_calibration(deciding)) and "micro_context_scores" in needs_of(deciding)
    if settings["score_all"] or needed or answers["scored"].notna().any():
        found.add("micro_context_scores")
    if not (answers["micro_text"].notna() & answers["box_text"].isna()).any():
        found.add("grounding_response")
    return found


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
        column = "selected" if choice == "selected" else pick_column(heading(choice))
        taken = answers.get(column, pd.Series(index=answers.index, dtype="str")) == "micro"
    return np.asarray(has_micro & taken, dtype=bool)


def scores_of(answers: pd.DataFrame, choice: Choice) -> np.ndarray:
    """Each question's score (1 is right) under ``choice``; (questions,), NaN where it cannot be told."""
    if choice == "selected":
        return np.asarray(answers["score_selected"])
    return np.asarray(np.where(picked_micro(answers, choice), answers["score_micro"], answers["score_macro"]))
