"""How the second pass shows pictures: in the conversation in which the model named the region, or in one turn."""

from __future__ import annotations

from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.method.conversations import system_turn
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom

__all__ = ["continued", "one_turn"]


def continued(question: Question, zoom: Zoom, shown: tuple[Picture, ...], prompt: str) -> Conversation:
    """``[image, Q1, A1, shown, prompt]``, whose beginning is that of the grounding response and reuses its states.

    Where the region was found without words there is no such conversation: ``[image, shown, prompt]``.
    """
    if zoom.exchange is None:
        return one_turn(question, (*question.images, *shown), prompt)
    response = zoom.exchange.response
    return (
        *zoom.exchange.conversation,
        Message("assistant", (response.text,), response.token_ids),
        Message("user", (*shown, prompt)),
    )


def one_turn(question: Question, shown: tuple[Picture, ...], prompt: str) -> Conversation:
    """``[shown, prompt]``."""
    return (*system_turn(question), Message("user", (*shown, prompt)))
