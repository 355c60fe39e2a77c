"""A question as the method sees it: what is asked, about which images, and what an answer looks like."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Failure, Picture

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

    ``prompt`` is the task's full text (stem, options, format hint), which the macro pathway gets in the task's own
    ``layout``; ``stem`` is the bare question that grounding gets (no options, no format hint). ``images`` is empty or
    has several entries for the questions that DualFocus answers from the macro pathway alone.
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
    """MMBench's hint. A string, even an empty one, asks for MMBench's order of Q1: hint and stem first."""
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ()
    system: str | None = None
    video: bool = False
    """``images``, if any, are frames of a video."""
    failure: Failure | None = None
    """Why the question cannot be asked at all, e.g. an unreadable image; its trace then says so."""
    truth: Box | None = None
    """Where the answer is to be seen, as fractions of the image, if the data set knows it; for the control that looks
    there."""
    layout: tuple[str | Picture, ...] = ()
    """Texts and images in the order in which the task shows them; empty for the images followed by the prompt."""

    @property
    def content(self) -> tuple[str | Picture, ...]:
        """What the user's turn of the macro pathway holds, in reading order."""
        return self.layout or (*self.images, self.prompt)

    @property
    def digest(self) -> str:
        """Hex digest of all of the question that can change its answer, images included, and not its key."""
        text = json.dumps(
            [
                self.prompt,
                self.stem,
                [part if isinstance(part, str) else part.digest for part in self.layout],
                [picture.digest for picture in self.images],
                self.kind,
                self.options,
                self.hint,
                self.max_new_tokens,
                self.stop,
                self.system,
                self.video,
                *(self.truth.corners if self.truth else ()),
            ]
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
