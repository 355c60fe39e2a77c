"""Which of the two candidates is the answer: the rules that compare their costs, and their application to a trace.

`deciding` holds what needs no rule: answers that agree, and answers of which only one names an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.method.calls import attempt
from dualfocus_eval.method.selection.base import Candidates, Need, SelectionRule
from dualfocus_eval.method.selection.calibration import CALIBRATION_LABEL, CALIBRATION_NEEDS, is_calibration
from dualfocus_eval.method.selection.deciding import lower_nll
from dualfocus_eval.method.selection.micro_context import MICRO_CONTEXT
from dualfocus_eval.method.selection.own_context import OWN_CONTEXT
from dualfocus_eval.method.selection.released import RELEASED
from dualfocus_eval.traces.record import Decision, Fallback, Pathway, Trace

__all__ = ["RULES", "candidates_of", "costs", "costs_of", "label_of", "needs_of", "picks", "picks_of", "reselect"]

RULES: Registry[SelectionRule] = Registry(
    "dualfocus_eval.selection", "selection rule", (OWN_CONTEXT, MICRO_CONTEXT, RELEASED)
)
"""Every selection rule by name: this package's own, and those that other packages register."""


def label_of(name: str) -> str | None:
    """What the rule of that name compares, in a few words; None for a rule that is not installed here."""
    if is_calibration(name):
        return CALIBRATION_LABEL
    return RULES[name].label if name in RULES else None


def needs_of(name: str) -> frozenset[Need]:
    """What the rule of that name needs. Raises ``UserError`` for a rule that is not installed here."""
    return CALIBRATION_NEEDS if is_calibration(name) else RULES[name].needs


def _rules(fitted: SelectionRule | None) -> tuple[SelectionRule, ...]:
    return (*RULES, fitted) if fitted else tuple(RULES)


def costs(candidates: Candidates, fitted: SelectionRule | None = None) -> dict[str, tuple[float, float]]:
    """What each rule compares, for all rules whose needs are known: the costs of macro and micro, in nats.

    ``fitted`` is a calibrated choice, which no registry has. A rule that raises is left out, and logged: it costs its
    own choice, never another rule's nor the run.
    """
    found = {
        rule.name: attempt(partial(_costs, rule, candidates), f"selection rule {rule.name}") for rule in _rules(fitted)
    }
    return {name: pair for name, pair in found.items() if isinstance(pair, tuple)}


def _costs(rule: SelectionRule, candidates: Candidates) -> tuple[float, float] | None:
    """As Python's own numbers, since records are JSON."""
    pair = rule.costs(candidates)
    if pair is None:
        return None
    macro, micro = pair
    return float(macro), float(micro)


def picks(candidates: Candidates, fitted: SelectionRule | None = None) -> dict[str, Pathway]:
    """The pathway of lower cost (Eq. 8), for all rules whose needs are known."""
    return {name: lower_nll(*pair) for name, pair in costs(candidates, fitted).items()}


def candidates_of(trace: Trace) -> Candidates | None:
    """What a trace knows of its two candidates; None where it has only one."""
    if trace.macro is None or trace.micro is None:
        return None
    response, box = (trace.grounding.response, trace.grounding.box) if trace.grounding else (None, None)
    return Candidates(trace.macro, trace.micro, response, trace.scores, trace.kind, box)


def costs_of(trace: Trace, fitted: SelectionRule | None = None) -> Mapping[str, tuple[float, float]]:
    """`costs` of a trace's candidates; empty where it has only one."""
    candidates = candidates_of(trace)
    return costs(candidates, fitted) if candidates else {}


def picks_of(trace: Trace, fitted: SelectionRule | None = None) -> Mapping[str, Pathway]:
    """What each rule picks of a trace's two candidates. Empty where there is only one candidate.

    As recorded; but a rule that was installed since, and one of another package, whose code may have changed since,
    picks anew from the recorded log-probabilities, and so does a calibrated choice.
    """
    anew = [rule.name for rule in _rules(fitted) if rule.name not in trace.picks or not RULES.is_own(rule.name)]
    candidates = candidates_of(trace) if trace.picks and anew else None
    if candidates is None:
        return trace.picks
    if trace.decision in (Decision.NLL, Decision.NO_SCORES):
        found = picks(candidates, fitted)
    else:  # settled without scores, in the same way for every rule
        found = dict.fromkeys(anew, next(iter(trace.picks.values())))
    return {**trace.picks, **{name: found[name] for name in anew if name in found}}


def reselect(trace: Trace, rule: str, fitted: SelectionRule | None = None) -> Trace:
    """The same trace decided by the rule of that name; unchanged where there was only one candidate.

    A rule that could not be computed for this question leaves the macro answer, as a fallback. What a calibrated choice
    picks is not recorded among the picks: they are of every run that finds the trace, and it is not.
    """
    if not trace.picks:
        return trace
    found = dict(picks_of(trace, fitted))
    pick = found.pop(rule, None) if is_calibration(rule) else found.get(rule)
    if pick is None:
        known = is_calibration(rule) and trace.scores is not None
        fallback = Fallback.NOT_CALIBRATED if known else Fallback.SCORING_FAILED
        return replace(trace, selected="macro", decision=Decision.NO_SCORES, fallback=fallback)
    decision = Decision.NLL if trace.decision == Decision.NO_SCORES else trace.decision
    return replace(trace, picks=found, selected=pick, decision=decision, fallback=None)
