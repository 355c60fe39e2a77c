"""The runs that several experiments have in common."""

from __future__ import annotations

from dualfocus_eval.paper.experiment import RunSpec

__all__ = ["MACRO_ALONE", "TWO_PASSES"]

TWO_PASSES = RunSpec("two_passes", {"strategy": "dualfocus", "score_all": "true", "adaptive_nll": "none"})
"""Both candidates of every question, scored for every rule: tables 1 to 4, 9 and figures 3 to 5 need no other run."""
MACRO_ALONE = RunSpec("macro_alone", {"strategy": "macro"}, own_traces=True)
"""The first pass alone, whose time is compared with that of both."""
