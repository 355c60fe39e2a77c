"""``text_box``: the model is asked for the coordinates of the region (Q1) and writes them (A1), Eq. 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from dualfocus_eval.engines.base import Conversation, Engine, Failure, GenerateRequest, Message
from dualfocus_eval.families import box_conventions
from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.method.calls import attempt
from dualfocus_eval.method.conversations import system_turn
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.prompts import grounding_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Fallback

__all__ = ["TEXT_BOX", "grounding_conversation"]


def grounding_conversation(question: Question, prompt_set: str) -> Conversation:
    """[image, Q1]. It and the macro conversation share their prefix up to the end of the image."""
    return (*system_turn(question), Message("user", (*question.images, grounding_prompt(question, prompt_set))))


@dataclass(frozen=True)
class _TextBox:
    name: str = "text_box"
    version: int = 1
    responds: bool = True

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        conversation = grounding_conversation(question, settings.prompt_set)
        return (GenerateRequest(conversation, settings.max_box_tokens, (), settings.max_thinking_tokens),)

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        return [_region(item, engine, settings) for item in inputs]


TEXT_BOX = _TextBox()


def _region(item: GroundingInput, engine: Engine, settings: GroundingSettings) -> Region | NoRegion:
    """What the model's text says, as a box of the raw image; without a usable one the outcome is the reason."""
    (reply,) = item.replies
    if isinstance(reply, Failure):
        return NoRegion(Fallback.GROUNDING_FAILED, cause=reply)
    (picture,) = item.question.images
    in_pixels = box_conventions()[settings.box_convention].scale is None
    encoded = attempt(partial(engine.encoded_size, picture)) if in_pixels else None
    if isinstance(encoded, Failure):
        return NoRegion(Fallback.GROUNDING_FAILED, cause=encoded)
    parsed = parse_box(
        reply.response.text,
        settings.box_convention,
        image_size=picture.pixels.size,
        encoded_size=encoded,
        frame=settings.box_frame,
    )
    if parsed.box is None:
        return NoRegion(parsed.outcome, exchange=reply)
    return Region(parsed.box, parsed.outcome, exchange=reply)
