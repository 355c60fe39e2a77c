"""What the model is shown in each pathway; training samples are laid out the same way."""

from __future__ import annotations

from dualfocus_eval.engines.base import Completion, Conversation, Message, Picture
from dualfocus_eval.method.prompts import grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question

__all__ = ["grounding_conversation", "macro_conversation", "micro_conversation", "scoring_conversation"]


def macro_conversation(question: Question) -> Conversation:
    """[images, question] (Eq. 5), in the task's own order."""
    return (*_system(question), Message("user", question.content))


def grounding_conversation(question: Question, wording: str) -> Conversation:
    """[image, Q1] (Eq. 2). It and the macro conversation share their prefix up to the end of the image."""
    return (*_system(question), Message("user", (*question.images, grounding_prompt(question, wording))))


def micro_conversation(question: Question, a1: Completion, crop: Picture, wording: str) -> Conversation:
    """[image, Q1, A1, crop, Q2] (Eq. 6)."""
    return _second_round(question, a1, crop, wording, micro_prompt(question, wording))


def scoring_conversation(question: Question, a1: Completion, crop: Picture, wording: str) -> Conversation:
    """[image, Q1, A1, crop, scoring prompt]: the context in which the selection rules compare the candidates."""
    return _second_round(question, a1, crop, wording, scoring_prompt(question, wording))


def _second_round(question: Question, a1: Completion, crop: Picture, wording: str, prompt: str) -> Conversation:
    return (
        *grounding_conversation(question, wording),
        Message("assistant", (a1.text,), a1.token_ids),
        Message("user", (crop, prompt)),
    )


def _system(question: Question) -> Conversation:
    return (Message("system", (question.system,)),) if question.system else ()
