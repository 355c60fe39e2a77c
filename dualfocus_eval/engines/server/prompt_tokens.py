"""The token ids of prompts as the checkpoint's own template and tokenizer make them, to compare a server's with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from dualfocus_eval.engines.base import Conversation
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.engines.template import ChatTemplate, prompt_parts

__all__ = ["PromptTokens"]


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """What a server's prompts must consist of, but for the tokens of images, whose number only its processor knows."""

    template: ChatTemplate

    def segments(
        self, conversation: Conversation, begun: Sequence[int] = (), *, answering: bool = False
    ) -> list[list[int]]:
        """Ids of the prompt between its images, generated turns and the ``begun`` answer spliced in as they are.

        Raises ``RenderingError`` where the template refuses the conversation.
        """
        found: list[list[int]] = [[]]
        for number, (text, turn) in enumerate(self.template.pieces(conversation, answering=answering)):
            first, *later = self._image.split(text) if self._image else [text]
            found[-1] += self.template.encode_later(first) if number else self.template.encode_first(first)
            found += [self.template.encode_later(part) for part in later]
            found[-1] += turn
        found[-1] += begun
        return found

    def image_tokens(self, pixels: Image.Image) -> int:
        """How many image tokens the checkpoint's processor makes of one image, alone in its prompt."""
        inputs = image_inputs(self.template.processor, pixels)
        return sum(part for part in self.parts(inputs.ids) if isinstance(part, int))

    def parts(self, prompt_ids: Sequence[int]) -> tuple[str | int, ...]:
        """See `engines.template.prompt_parts`."""
        return prompt_parts(self.template.processor, prompt_ids)

    @staticmethod
    def agree(segments: Sequence[Sequence[int]], prompt_ids: Sequence[int]) -> bool:
        """Whether ``prompt_ids`` are ``segments`` with other tokens, those of images, between them."""
        first, *later = [list(segment) for segment in segments]
        ids = list(prompt_ids)
        if ids[: len(first)] != first:
            return False
        if not later:
            return len(ids) == len(first)
        *middle, last = later
        at = len(first)
        for segment in middle:
            place = _find(segment, ids, at)
            if place is None:
                return False
            at = place + len(segment)
        return len(ids) - len(last) >= at and ids[len(ids) - len(last) :] == last

    @cached_property
    def _image(self) -> re.Pattern[str] | None:
        """What the template writes for an image, as the checkpoint's processor finds it."""
        processor: Any = self.template.processor
        token = getattr(processor, "image_token", None)
        return re.compile(re.escape(token)) if token else None


def _find(segment: Sequence[int], ids: Sequence[int], begin: int) -> int | None:
    """The first place at or after ``begin`` where ``segment`` stands in ``ids``."""
    length = len(segment)
    places = range(begin, len(ids) - length + 1)
    return next((at for at in places if ids[at : at + length] == segment), None)
