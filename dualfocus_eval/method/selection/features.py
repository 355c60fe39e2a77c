"""What a calibrated choice looks at: numbers that a trace of two scored candidates has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from dualfocus_eval.method.question import AnswerKind
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.selection.deciding import normalised

__all__ = ["FEATURES", "FEATURES_VERSION", "RESPONSE_FEATURE", "answer_kind", "features_of"]

FEATURES_VERSION = 1
"""Raised when a feature changes its meaning: a calibration fitted before says nothing of it."""

RESPONSE_FEATURE = "box_nll"
"""The one that only grounding methods with a response have."""

_SMALLEST_AREA = 1e-6
"""Of a box, as a fraction of the image: its logarithm is finite."""
_SMALLEST_NLL = 1e-4
"""In nats: the same for the logarithm of an NLL."""


def _scored(read: Callable[[float, float], float]) -> Callable[[Candidates], float]:
    """A feature of both candidates' NLL in the micro pathway's context; NaN without scores."""

    def feature(candidates: Candidates) -> float:
        scores = candidates.scores
        return math.nan if scores is None else read(scores.macro_nll, scores.micro_nll)

    return feature


def _shared_words(candidates: Candidates) -> float:
    """The share of words that both answers have, of all words of either; 0 without any word."""
    macro, micro = (set(normalised(one.text, AnswerKind.SHORT).split()) for one in (candidates.macro, candidates.micro))
    return len(macro & micro) / len(macro | micro) if macro | micro else 0.0


def _box_area(candidates: Candidates) -> float:
    """Logarithm of the region's share of the image; NaN without a box."""
    return math.log(max(candidates.box.area, _SMALLEST_AREA)) if candidates.box else math.nan


def _box_nll(candidates: Candidates) -> float:
    """Logarithm of the NLL; NaN without a response, and of one that the model is only said to have written.

    A confident box has an NLL of a few hundredths, and the differences among those count.
    """
    nll = candidates.grounding_response.nll if candidates.grounding_response else math.nan
    return nll if math.isnan(nll) else math.log(max(nll, _SMALLEST_NLL))


FEATURES: Mapping[str, Callable[[Candidates], float]] = {
    "own_macro": lambda candidates: candidates.macro.nll,
    "own_micro": lambda candidates: candidates.micro.nll,
    "own_difference": lambda candidates: candidates.macro.nll - candidates.micro.nll,
    "context_macro": _scored(lambda macro, micro: macro),
    "context_micro": _scored(lambda macro, micro: micro),
    "context_difference": _scored(lambda macro, micro: macro - micro),
    "shared_words": _shared_words,
    "box_area": _box_area,
    RESPONSE_FEATURE: _box_nll,
}
"""By name: NLLs in nats per token, ``own`` in each answer's own pathway, ``context`` of both in the micro pathway's
context, ``difference`` being macro's less micro's; agreement of the answers, from 0 to 1; the box, and the NLL of the
grounding response, as logarithms."""


def answer_kind(candidates: Candidates) -> str:
    """The kind of the answers. Of yes and no it also says which pathway says which: ``yes_then_no`` is macro's yes.

    A model errs to one side more than to the other.
    """
    if candidates.kind != AnswerKind.OPTION:
        pair = tuple(normalised(one.text, AnswerKind.YES_NO) for one in (candidates.macro, candidates.micro))
        if pair in (("yes", "no"), ("no", "yes")):
            return "_then_".join(pair)
    return str(candidates.kind)


def features_of(candidates: Candidates) -> dict[str, float]:
    """The features by name: those that are known and finite."""
    values = {name: float(feature(candidates)) for name, feature in FEATURES.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}
