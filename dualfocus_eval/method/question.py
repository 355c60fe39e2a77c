"""A question as the method sees it: what is asked, about which images, and what an answer looks like."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dualfocus_eval.engines.base import Failure, Picture

__all__ = ["POST_PROMPTS", "AnswerKind", "Question", "StemAndOptions", "stem_of"]


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
    """MMBench's hint. A string, even an empty one, asks for MMBench's order of Q1: hint and stem first."""
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ()
    system: str | None = None
    video: bool = False
    """``images``, if any, are frames of a video."""
    failure: Failure | None = None
    """Why the question cannot be asked at all, e.g. an unreadable image; its trace then says so."""

    @property
    def digest(self) -> str:
        """Hex digest of all of the question that can change its answer, images included, and not its key."""
        text = json.dumps(
            [
                self.prompt,
                self.stem,
                [picture.digest for picture in self.images],
                self.kind,
                self.options,
                self.hint,
                self.max_new_tokens,
                self.stop,
                self.system,
                self.video,
            ]
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


POST_PROMPTS = (
    "Answer the question using a single word or phrase.",
    "Answer the question using a single word or phrase",
    "Answer with the option's letter from the given choices directly.",
    "Answer with the option's letter from the given choices directly",
    "Please answer the question using a single word or phrase.",
    "Please answer yes or no.",
    "Answer yes or no.",
)
"""Format hints at the end of common benchmarks' prompts."""

_OPTION_LINE = re.compile(r"^\s*\(?([A-Z])[.):]\s*(\S.*?)\s*$")


class StemAndOptions(NamedTuple):
    """The bare question, and the option texts in the order of their letters."""

    stem: str
    options: tuple[str, ...]


def stem_of(prompt: str, post_prompts: Sequence[str] = POST_PROMPTS) -> StemAndOptions:
    """The bare question in a task's full prompt: trailing ``post_prompts`` and the block of option lines are cut off.

    Options are the first run of at least two consecutive lines lettered A, B, ... . A prompt that is nothing but
    options and format hints has an empty stem.
    """
    text = prompt.strip()
    known = sorted({post.strip() for post in post_prompts} - {""}, key=len, reverse=True)
    while ending := next((post for post in known if text.endswith(post)), None):
        text = text[: -len(ending)].rstrip()
    lines = text.splitlines()
    for start in range(len(lines)):
        options: list[str] = []
        for line in lines[start:]:
            match = _OPTION_LINE.match(line)
            if not match or match[1] != chr(ord("A") + len(options)):
                break
            options.append(match[2])
        if len(options) >= 2:
            kept = lines[:start] + lines[start + len(options) :]
            return StemAndOptions("\n".join(kept).strip(), tuple(options))
    return StemAndOptions(text, ())
