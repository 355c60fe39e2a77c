"""Why a question is left out of the training data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["EXCLUSIONS", "FAULTS", "STICKS_OUT", "Reason"]

STICKS_OUT = 0.02
"""Of the image's side. Annotators' boxes often end a few pixels outside; a box further out belongs to another image."""


class Reason(StrEnum):
    """Why a question is left out, in the order in which the reasons are looked for."""

    NO_ID = "no_id"
    DUPLICATE = "duplicate_id"
    MALFORMED = "malformed"
    EMPTY_QUESTION = "empty_question"
    EMPTY_ANSWER = "empty_answer"
    UNKNOWN_IMAGE = "unknown_image"
    NO_BOX = "no_box"
    OUTSIDE_IMAGE = "outside_image"
    TOO_SMALL = "too_small"
    UNCHECKED = "unchecked"
    AMBIGUOUS = "ambiguous"
    TURNED = "turned"
    IMAGE_UNREADABLE = "image_unreadable"


FAULTS = (Reason.NO_ID, Reason.DUPLICATE, Reason.MALFORMED, Reason.IMAGE_UNREADABLE)
"""Reasons that lie in damaged or missing input; the others are the filter's work."""
EXCLUSIONS: Mapping[Reason, str] = {
    Reason.NO_ID: "the question or its image has no id",
    Reason.DUPLICATE: "another question has the same id",
    Reason.MALFORMED: "not an object with question and answer as plain text, or it names another image",
    Reason.EMPTY_QUESTION: "no letter or digit in the question",
    Reason.EMPTY_ANSWER: "nothing but spaces and punctuation in the answer",
    Reason.UNKNOWN_IMAGE: "image_data.json has no size of the image",
    Reason.NO_BOX: "neither boxes of all referred objects nor a mapped region",
    Reason.OUTSIDE_IMAGE: f"the box sticks out of the image by more than {STICKS_OUT:.0%} of its side",
    Reason.TOO_SMALL: "the box has no area when written with two decimals",
    Reason.UNCHECKED: "ambiguity cannot be judged: the image's objects, or a referred object's name, are missing",
    Reason.AMBIGUOUS: "something of the same kind as a referred object lies outside the box",
    Reason.TURNED: "EXIF turns the image, so that it is not known whether the boxes are of it as shown or as stored",
    Reason.IMAGE_UNREADABLE: "the image file is missing or damaged",
}
