"""From an image and a question in a user's own words to a `Question`, laid out as the tasks lay theirs out."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.harness.task_functions import lettered_prompt
from dualfocus_eval.method.images import prepare_picture, shows_several_frames
from dualfocus_eval.method.prompts import WORD_HINT
from dualfocus_eval.method.question import AnswerKind, Question

__all__ = ["Asked", "ImageSource", "QuestionText", "ask_about"]

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""The path of an image file, its bytes, a PIL image, or an array of 8-bit pixels: (height, width, 3) is RGB; (height,
width) grey and (height, width, 4) RGBA are accepted too."""

_LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class QuestionText:
    """A question in words, checked before any image is opened."""

    question: str
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, question: str, options: Sequence[str] | None = None) -> QuestionText:
        """Raises ``UserError`` for an empty question and for options that are not two to 26 different texts."""
        if not isinstance(question, str) or not question.strip():
            raise UserError("the question is empty: write what you want to know about the image")
        if isinstance(options, str):
            raise UserError(f"options={options!r} is one text: give a list of two or more")
        return cls(question.strip(), _checked([str(option).strip() for option in options or ()]))

    @property
    def prompt(self) -> str:
        """The text of the macro pathway, format hint included."""
        if self.options:
            return lettered_prompt(self.question, dict(zip(_LETTERS, self.options, strict=False)))
        return f"{self.question}\n{WORD_HINT}"


def _checked(options: list[str]) -> tuple[str, ...]:
    if len(options) == 1:
        raise UserError(f"options: {options[0]!r} is the only one: give two or more, or none for an open question")
    if len(options) > len(_LETTERS):
        raise UserError(f"options: {len(options)} are more than the {len(_LETTERS)} letters: give fewer")
    if "" in options:
        raise UserError(f"options: number {options.index('') + 1} is empty: give each a text")
    seen: dict[str, str] = {}
    for option in options:
        if (first := seen.get(option.casefold())) is not None:
            raise UserError(f"options: {first!r} and {option!r} are equal: an answer could not tell them apart")
        seen[option.casefold()] = option
    return tuple(options)


@dataclass(frozen=True)
class Asked:
    """A question about one image, ready for the method, and what to call the image."""

    question: Question
    source: str
    """The path of the image; ``image`` where there is none."""


def ask_about(image: ImageSource, text: QuestionText, *, max_new_tokens: int = 16, name: str = "image") -> Asked:
    """The question ``text`` about ``image``; one that cannot be opened becomes the question's failure.

    The question's key is made of its content, so that a stored answer is found again wherever the file lies. Raises
    ``UserError`` for an object that is no image, such as an array of another type or shape.
    """
    source = str(os.fspath(image)) if isinstance(image, str | os.PathLike) else name
    question = Question(
        key=f"ask/{source}",
        prompt=text.prompt,
        stem=text.question,
        images=(),
        kind=AnswerKind.OPTION if text.options else AnswerKind.SHORT,
        options=text.options,
        max_new_tokens=max_new_tokens,
    )
    picture = _open(image, source)
    if isinstance(picture, Failure):
        return Asked(replace(question, failure=picture), source)
    question = replace(question, images=(picture,))
    return Asked(replace(question, key=f"ask/{question.digest[:16]}"), source)


def _open(image: Any, name: str) -> Picture | Failure:
    source = _from_array(image, name) if isinstance(image, np.ndarray) else image
    if not isinstance(source, str | os.PathLike | bytes | Image.Image):
        raise UserError(f"{name}: a {type(image).__name__} is no image: give a path, bytes, a PIL image or an array")
    # An opened PIL image shows the frame that its owner chose; of a file nobody chose one.
    if not isinstance(source, Image.Image) and shows_several_frames(source):
        return Failure("several_frames", f"{name} is an animation or has several pages: save one frame as an image")
    return prepare_picture(source, name)


def _from_array(pixels: np.ndarray, name: str) -> Image.Image:
    known = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not known or not pixels.size:
        raise UserError(
            f"{name}: an array of shape {pixels.shape} and type {pixels.dtype} is no image: give (height, width, 3) in "
            "uint8; also possible: (height, width) and (height, width, 4)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))
