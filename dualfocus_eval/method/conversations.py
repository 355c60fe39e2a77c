"""What the model is shown in each pathway; training samples are laid out the same way."""

from __future__ import annotations

from dualfocus_eval.engines.base import Completion, Conversation, Message, Picture
from dualfocus_eval.method.prompts import grounding_prompt, micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question

__all__ = ["grounding_conversation", "macro_conversation", "micro_conversation", "scoring_conversation"]


def macro_conversation(question: Question) -> Conversation:
    """[images, question] (Eq. 5), in the task's own order."""
    return (*_system(question), Message("user", question.content))


def grounding_conversation(question: Question, prompt_set: str) -> Conversation:
    """[image, Q1] (Eq. 2). It and the macro conversation share their prefix up to the end of the image."""
    return (*_system(question), Message("user", (*question.images, grounding_prompt(question, prompt_set))))


def micro_conversation(
    question: Question, grounding_response: Completion, crop: Picture, prompt_set: str
) -> Conversation:
    """[image, Q1, A1, crop, Q2] (Eq. 6)."""
    return _second_round(question, grounding_response, crop, prompt_set, micro_prompt(question, prompt_set))


def scoring_conversation(
    question: Question, grounding_response: Completion, crop: Picture, prompt_set: str
) -> Conversation:
    """[image, Q1, A1, crop, scoring prompt]: the context in which the selection rules compare the candidates."""
    return _second_round(question, grounding_response, crop, prompt_set, scoring_prompt(question, prompt_set))


def _second_round(
    question: Question, grounding_response: Completion, crop: Picture, prompt_set: str, prompt: str
) -> Conversation:
    return (
        *grounding_conversation(question, prompt_set),
        Message("assistant", (grounding_response.text,), grounding_response.token_ids),
        Message("user", (crop, prompt)),
    )


def _system(question: Question) -> Conversation:
    return (Message("system", (question.system,)),) if question.system else ()
