"""The seam of the second pass: how an image and its region become the conversation that the micro answer continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.method.grounding.base import Exchange
from dualfocus_eval.method.question import Question

__all__ = ["SecondPass", "Zoom"]


@dataclass(frozen=True)
class Zoom:
    """The region of a question, in every form that a second pass may show."""

    box: Box
    crop: Crop
    """The box after the crop rule."""
    picture: Picture
    """The crop's pixels, cut from the original image."""
    exchange: Exchange | None = None
    """How the model named the region; None where the grounding method found it without words."""


class SecondPass(Protocol):
    """Lays out the conversations of the micro pathway.

    To add one is to write one module with such an object and to register it: in ``second_pass/__init__.py``, or from
    another package under the entry-point group ``dualfocus_eval.second_pass``. One that not every engine or
    model can do is also a `grounding.base.EngineBound`.
    """

    @property
    def name(self) -> str:
        """What a user writes: ``second_pass=NAME``; a word of letters, digits and underscores."""
        ...

    @property
    def version(self) -> int:
        """Raised when a change can change a conversation, so that answers stored before are not reused."""
        ...

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        """What the micro answer continues (Eq. 6)."""
        ...

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        """What both candidates are scored as continuations of: `conversation` with the scoring prompt in Q2's place."""
        ...
