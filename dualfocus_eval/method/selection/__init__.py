"""Which of the two candidates is the answer: the rules that compare their costs, and their application to a trace.

`deciding` holds what needs no rule: answers that agree, and answers of which only one names an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.method.calls import attempt
from dualfocus_eval.method.selection.base import Candidates, SelectionRule
from dualfocus_eval.method.selection.deciding import lower_nll
from dualfocus_eval.method.selection.micro_context import MICRO_CONTEXT
from dualfocus_eval.method.selection.own_context import OWN_CONTEXT
from dualfocus_eval.method.selection.released import RELEASED
from dualfocus_eval.traces.record import Decision, Fallback, Pathway, Trace

__all__ = ["RULES", "candidates_of", "costs", "costs_of", "label_of", "picks", "picks_of", "reselect"]

RULES: Registry[SelectionRule] = Registry(
    "dualfocus_eval.selection", "selection rule", (OWN_CONTEXT, MICRO_CONTEXT, RELEASED)
)
"""Every selection rule by name: this package's own, and those that other packages register."""


def label_of(name: str) -> str | None:
    """What the rule of that name compares, in a few words; None for a rule that is not installed here."""
    return RULES[name].label if name in RULES else None


def costs(candidates: Candidates) -> dict[str, tuple[float, float]]:
    """What each rule compares, for all rules whose needs are known: the costs of macro and micro, in nats.

    A rule that raises is left out, and logged: it costs its own choice, never another rule's nor the run.
    """
    found = {rule.name: attempt(partial(_costs, rule, candidates), f"selection rule {rule.name}") for rule in RULES}
    return {name: pair for name, pair in found.items() if isinstance(pair, tuple)}


def _costs(rule: SelectionRule, candidates: Candidates) -> tuple[float, float] | None:
    """As Python's own numbers, since records are JSON."""
    pair = rule.costs(candidates)
    if pair is None:
        return None
    macro, micro = pair
    return float(macro), float(micro)


def picks(candidates: Candidates) -> dict[str, Pathway]:
    """The pathway of lower cost (Eq. 8), for all rules whose needs are known."""
    return {name: lower_nll(*pair) for name, pair in costs(candidates).items()}


def candidates_of(trace: Trace) -> Candidates | None:
    """What a trace knows of its two candidates; None where it has only one."""
    if trace.macro is None or trace.micro is None:
        return None
    return Candidates(trace.macro, trace.micro, trace.grounding.response if trace.grounding else None, trace.scores)


def costs_of(trace: Trace) -> Mapping[str, tuple[float, float]]:
    """`costs` of a trace's candidates; empty where it has only one."""
    candidates = candidates_of(trace)
    return costs(candidates) if candidates else {}


def picks_of(trace: Trace) -> Mapping[str, Pathway]:
    """What each rule picks of a trace's two candidates. Empty where there is only one candidate.

    As recorded; but a rule that was installed since, and one of another package, whose code may have changed since,
    picks anew from the recorded log-probabilities.
    """
    anew = [name for name in RULES.items if name not in trace.picks or not RULES.is_own(name)]
    candidates = candidates_of(trace) if trace.picks and anew else None
    if candidates is None:
        return trace.picks
    if trace.decision in (Decision.NLL, Decision.NO_SCORES):
        found = picks(candidates)
    else:  # settled without scores, in the same way for every rule
        found = dict.fromkeys(RULES.items, next(iter(trace.picks.values())))
    return {**trace.picks, **{name: found[name] for name in anew if name in found}}


def reselect(trace: Trace, rule: str) -> Trace:
    """The same trace decided by the rule of that name; unchanged where there was only one candidate.

    A rule that could not be computed for this question leaves the macro answer, as a fallback.
    """
    if not trace.picks:
        return trace
    found = picks_of(trace)
    if rule not in found:
        return replace(trace, selected="macro", decision=Decision.NO_SCORES, fallback=Fallback.SCORING_FAILED)
    decision = Decision.NLL if trace.decision == Decision.NO_SCORES else trace.decision
    return replace(trace, picks=found, selected=found[rule], decision=decision, fallback=None)
