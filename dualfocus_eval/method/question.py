"""A question as the method sees it: what is asked, about which images, and what an answer looks like."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dualfocus_eval.engines.base import Picture

__all__ = ["AnswerKind", "Question"]


class AnswerKind(StrEnum):
    """The form of the expected answer; it decides the normalisation before candidates are compared."""

    YES_NO = "yes_no"
    OPTION = "option"
    """A letter that names one of ``Question.options``."""
    SHORT = "short"
    """A single word or phrase."""
    OPEN = "open"


@dataclass(frozen=True)
class Question:
    """One question of one task.

    ``prompt`` is the task's full text (stem, options, format hint) as the macro pathway gets it; ``stem`` is the bare
    question that grounding gets (no options, no format hint). ``images`` is empty or has several entries for the
    questions that DualFocus answers from the macro pathway alone.
    """

    key: str
    """Unique within a run and stable across runs, e.g. ``pope/1234``; names the question in traces and errors."""
    prompt: str
    stem: str
    images: tuple[Picture, ...]
    kind: AnswerKind = AnswerKind.SHORT
    options: tuple[str, ...] = ()
    """Option texts in the order of their letters A, B, C, ..."""
    hint: str | None = None
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ()
    system: str | None = None
    video: bool = False
