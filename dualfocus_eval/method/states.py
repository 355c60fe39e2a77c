"""What a question is on its way through the passes: each step turns one of these into the next.

check:        Question -> Failed | Unzoomed | Asked
first pass:               Failed | Unzoomed | Zoomed
second pass:              Failed | Unzoomed | MicroOnly | Pair
macro pass:               Failed | MacroOnly | MicroOnly | Pair
comparison:               Failed | MacroOnly | MicroOnly | Decided
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.traces.record import ContextScores, Decision, Grounding, Pathway

__all__ = ["Asked", "Decided", "Failed", "MacroOnly", "MicroOnly", "Outcome", "Pair", "Unzoomed", "Zoomed"]


@dataclass(frozen=True)
class Failed:
    """It has no answer, because of ``error``; the rest is what was known before."""

    question: Question
    error: Failure
    grounding: Grounding | None = None
    fallback: str | None = None
    cause: Failure | None = None


@dataclass(frozen=True)
class Asked:
    """It is to be grounded."""

    question: Question
    requests: tuple[GenerateRequest, ...]
    """The grounding method's."""


@dataclass(frozen=True)
class Unzoomed:
    """The macro pathway answers it: because of ``fallback``, or because nothing else was asked for."""

    question: Question
    macro: Completion | None = None
    """None: not asked for yet."""
    grounding: Grounding | None = None
    fallback: str | None = None
    cause: Failure | None = None
    skipped_micro: bool = False


@dataclass(frozen=True)
class Zoomed:
    """Its region is known."""

    question: Question
    grounding: Grounding
    zoom: Zoom
    macro: Completion | None = None
    """None: not asked for, with ``strategy=micro``."""


@dataclass(frozen=True)
class MacroOnly:
    """Answered by the macro pathway alone."""

    question: Question
    macro: Completion
    grounding: Grounding | None = None
    fallback: str | None = None
    cause: Failure | None = None
    skipped_micro: bool = False


@dataclass(frozen=True)
class MicroOnly:
    """Answered by the micro pathway alone, with ``strategy=micro``."""

    question: Question
    micro: Completion
    grounding: Grounding


@dataclass(frozen=True)
class Pair:
    """Answered by both pathways."""

    question: Question
    macro: Completion
    micro: Completion
    grounding: Grounding
    zoom: Zoom


@dataclass(frozen=True)
class Decided:
    """A pair with what every selection rule picks of it."""

    pair: Pair
    picks: Mapping[str, Pathway]
    decision: Decision
    scores: ContextScores | None = None
    cause: Failure | None = None
    """Why there are no scores."""

    @property
    def question(self) -> Question:
        return self.pair.question


Outcome = Failed | MacroOnly | MicroOnly | Decided
