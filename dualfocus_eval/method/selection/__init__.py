"""Which of the two candidates is the answer: the rules that compare them, and what needs no comparison."""

from __future__ import annotations

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.method.selection.base import Candidates, Need, SelectionRule
from dualfocus_eval.method.selection.deciding import (
    RULES,
    Decision,
    Pathway,
    Rule,
    is_confident,
    lower_nll,
    nlls,
    normalised,
    picks,
    released_nll,
    settled,
)

__all__ = [
    "RULES",
    "Candidates",
    "Decision",
    "Need",
    "Pathway",
    "Registry",
    "Rule",
    "SelectionRule",
    "is_confident",
    "lower_nll",
    "nlls",
    "normalised",
    "picks",
    "released_nll",
    "settled",
]
