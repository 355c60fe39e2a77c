"""Which of the two candidates is the answer: Eq. 7 and 8 in three readings, and the multiple-choice rules.

All rules compare mean negative log-likelihoods (NLL) instead of perplexities; the exponential keeps their order.

- ``own``: each candidate in its own pathway, as the paper writes it.
- ``micro``: both as continuations of the micro pathway's context under the scoring prompt.
- ``released``: like ``micro``, the mean running over the tokens of A1 (the box) as well, as the released code computes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from dualfocus_eval.common.text import nfkc
from dualfocus_eval.engines.base import Completion, mean_nll
from dualfocus_eval.method.letters import named_option, option_index
from dualfocus_eval.method.question import AnswerKind, Question

__all__ = [
    "RULES",
    "Decision",
    "Pathway",
    "Rule",
    "is_confident",
    "lower_nll",
    "nlls",
    "normalised",
    "picks",
    "released_nll",
    "settled",
]

Pathway = Literal["macro", "micro"]
Rule = Literal["own", "micro", "released"]
RULES: tuple[Rule, ...] = ("own", "micro", "released")


class Decision(StrEnum):
    """What decided between the candidates."""

    NLL = "nll"
    AGREEMENT = "agreement"
    """Equal after normalisation: the macro answer's own spelling is kept, whatever the rule."""
    ONLY_VALID_OPTION = "only_valid_option"
    NO_VALID_OPTION = "no_valid_option"
    """Neither candidate names an option: macro."""
    ONLY_CANDIDATE = "only_candidate"
    NO_SCORES = "no_scores"
    """The rule's scores could not be taken: macro."""


def lower_nll(macro: float, micro: float) -> Pathway:
    """Eq. 8: macro where its NLL is strictly lower, else micro. An NLL that is not a number loses."""
    return "macro" if macro < micro or (micro != micro and macro == macro) else "micro"


def released_nll(grounding_response: Sequence[float], answer: Sequence[float]) -> float:
    """(sum NLL(A1) + sum NLL(answer)) / (|A1| + |answer|), from log-probabilities; favours longer answers."""
    return mean_nll([*grounding_response, *answer])


def is_confident(macro: Completion, threshold: float | None) -> bool:
    """Whether the macro answer's NLL is below ``threshold``, so that the micro pathway is skipped (appendix C)."""
    return threshold is not None and macro.nll < threshold


def nlls(
    macro: Completion,
    micro: Completion,
    grounding_response: Completion,
    in_micro_context: tuple[Sequence[float], Sequence[float]] | None = None,
) -> dict[Rule, tuple[float, float]]:
    """What each rule compares, for all rules that the log-probabilities at hand allow: NLLs of macro and micro.

    ``in_micro_context`` holds the token log-probabilities of the macro and the micro candidate there.
    """
    result: dict[Rule, tuple[float, float]] = {"own": (macro.nll, micro.nll)}
    if in_micro_context is not None:
        rescored_macro, rescored_micro = in_micro_context
        result["micro"] = (mean_nll(rescored_macro), mean_nll(rescored_micro))
        result["released"] = (
            released_nll(grounding_response.logprobs, rescored_macro),
            released_nll(grounding_response.logprobs, rescored_micro),
        )
    return result


def picks(
    macro: Completion,
    micro: Completion,
    grounding_response: Completion,
    in_micro_context: tuple[Sequence[float], Sequence[float]] | None = None,
) -> dict[Rule, Pathway]:
    """What each rule picks by `nlls`."""
    return {rule: lower_nll(*pair) for rule, pair in nlls(macro, micro, grounding_response, in_micro_context).items()}


_ARTICLES = frozenset({"a", "an", "the"})
_FIRST = re.compile(r"-?[$€£]?\.?\d|[\w$€£+#%]")
_KEPT = re.compile(r"[\w$€£+#%]")
"""What words are made of, with the sign and the point of a number; other marks around them are left out."""
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def normalised(text: str, kind: AnswerKind, options: int = 0) -> str:
    """The form in which two answers are compared: letter, yes or no, or words without case, articles, outer marks."""
    plain = nfkc(text).strip()
    if kind is AnswerKind.OPTION and (index := option_index(plain, options or 26)) is not None:
        return chr(ord("A") + index)
    if kind is AnswerKind.YES_NO and (match := _YES_NO.match(plain)):
        return match[1].lower()
    if kind is AnswerKind.OPEN:
        return " ".join(plain.split())
    words = [_without_outer_marks(word) for word in plain.casefold().split()]
    kept = [word for word in words if word and word not in _ARTICLES]
    return " ".join(kept) or plain.casefold()


def _without_outer_marks(word: str) -> str:
    first = _FIRST.search(word)
    return word[first.start() : max(mark.end() for mark in _KEPT.finditer(word))] if first else ""


def settled(macro: str, micro: str, question: Question) -> tuple[Pathway, Decision] | None:
    """The choice between two candidates that needs no scores, under every rule; None where scores have to decide."""
    options = question.options
    if normalised(macro, question.kind, len(options)) == normalised(micro, question.kind, len(options)):
        return "macro", Decision.AGREEMENT
    if question.kind is AnswerKind.OPTION and options:
        return _by_option(named_option(macro, options), named_option(micro, options))
    return None


def _by_option(macro: int | None, micro: int | None) -> tuple[Pathway, Decision] | None:
    """The multiple-choice rule: who alone names an option wins, where nobody does macro; None where both name one."""
    if macro is not None and macro == micro:
        return "macro", Decision.AGREEMENT
    if macro is None and micro is None:
        return "macro", Decision.NO_VALID_OPTION
    if macro is None or micro is None:
        return ("micro" if macro is None else "macro"), Decision.ONLY_VALID_OPTION
    return None
