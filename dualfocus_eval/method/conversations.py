"""How every conversation begins, and the one of the macro pathway; training samples are laid out the same way."""

from __future__ import annotations

from dualfocus_eval.engines.base import Conversation, Message
from dualfocus_eval.method.question import Question

__all__ = ["macro_conversation", "system_turn"]


def macro_conversation(question: Question) -> Conversation:
    """[images, question] (Eq. 5), in the task's own order."""
    return (*system_turn(question), Message("user", question.content))


def system_turn(question: Question) -> Conversation:
    """The question's system prompt as a turn; no turn where it has none."""
    return (Message("system", (question.system,)),) if question.system else ()
