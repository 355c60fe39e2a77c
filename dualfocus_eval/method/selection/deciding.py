"""What decides between the two candidates besides a rule's own costs: their comparison (Eq. 8), agreement, and the
multiple-choice rules.

Costs are mean negative log-likelihoods (NLL) instead of perplexities; the exponential keeps their order.
"""

from __future__ import annotations

import re

from dualfocus_eval.common.text import nfkc
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.letters import named_option, option_index
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.traces.record import Decision, Pathway

__all__ = [
    "is_confident",
    "lower_nll",
    "normalised",
    "settled",
]


def lower_nll(macro: float, micro: float) -> Pathway:
    """Eq. 8: macro where its NLL is strictly lower, else micro. An NLL that is not a number loses."""
    return "macro" if macro < micro or (micro != micro and macro == macro) else "micro"


def is_confident(macro: Completion, threshold: float | None) -> bool:
    """Whether the macro answer's NLL is below ``threshold``, so that the micro pathway is skipped (appendix C)."""
    return threshold is not None and macro.nll < threshold


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
