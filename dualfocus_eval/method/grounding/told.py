"""A region that somebody else has found, as if the model had named it.

The second pass of a checkpoint that was trained to name regions continues the conversation in which it did so. Of
grounding methods that ask the model for nothing, it gets the same conversation with their box as its response, so that
nothing but the region differs between methods.
"""

from __future__ import annotations

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion, Engine
from dualfocus_eval.families import box_conventions
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.grounding.base import Exchange, GroundingSettings, Region
from dualfocus_eval.method.grounding.text_box import grounding_conversation
from dualfocus_eval.method.question import Question

__all__ = ["told_region"]


def told_region(question: Question, box: Box, engine: Engine, settings: GroundingSettings) -> Region:
    """The region of ``box``, with the conversation in which the model is said to have written it.

    Raises what the engine does where it knows no tokenizer, or no size for a box in pixels of the resized image.
    """
    conversation = grounding_conversation(question, settings.prompt_set)
    (picture,) = question.images
    in_pixels = box_conventions()[settings.box_convention].scale is None
    text = format_box(
        box,
        settings.box_convention,
        image_size=picture.pixels.size,
        encoded_size=engine.encoded_size(picture) if in_pixels else None,
        frame=settings.box_frame,
    )
    told = Completion(text, engine.continuation(conversation, text), (), "eos")
    return Region(box, exchange=Exchange(conversation, told))
