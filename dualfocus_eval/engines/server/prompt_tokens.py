"""The token ids of prompts as the checkpoint's own template and tokenizer make them, to compare a server's with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL import Image

from dualfocus_eval.engines.base import Conversation
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.engines.server.messages import pictures_of
from dualfocus_eval.engines.template import ChatTemplate, RenderingError, prompt_parts

__all__ = ["PromptTokens"]

_SAMPLE = (80, 60)


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """What a server's prompts must consist of, but for the tokens of images, whose number only its processor knows."""

    template: ChatTemplate
    repetition_penalty: float = 1.0
    """Of the checkpoint's generation settings, which a server may have been started without."""

    def segments(self, conversation: Conversation, *, answering: bool = False) -> list[list[int]]:
        """Ids of the prompt between its images, generated turns spliced in as they are.

        Raises ``RenderingError`` where the template refuses the conversation, and where a text has what stands for an
        image, in the place of which a server would show one.
        """
        found: list[list[int]] = [[]]
        for number, (text, turn) in enumerate(self.template.pieces(conversation, answering=answering)):
            surrounded = self._surrounded(text)
            ids = self.template.encode_later(surrounded) if number else self.template.encode_first(surrounded)
            for token in ids:
                if token in self._placeholders:
                    found.append([])
                else:
                    found[-1].append(token)
            found[-1] += turn
        shown, given = len(found) - 1, len(pictures_of(conversation))
        if shown > given:
            raise RenderingError("image_token_in_text", "the text contains the model's image placeholder")
        if shown < given and self._placeholders:
            raise RenderingError(
                "chat_template", f"the chat template shows {shown} of the conversation's {given} pictures"
            )
        return found

    def image_tokens(self, pixels: Image.Image) -> int:
        """How many image tokens the checkpoint's processor makes of one image, alone in its prompt."""
        inputs = image_inputs(self.template.processor, pixels)
        return sum(part for part in self.parts(inputs.ids) if isinstance(part, int))

    def parts(self, prompt_ids: Sequence[int]) -> tuple[str | int, ...]:
        """See `engines.template.prompt_parts`."""
        return prompt_parts(self.template.processor, prompt_ids)

    def text(self, conversation: Conversation) -> str:
        """The prompt as a text, the answer to be begun, with what the template writes for an image in its place.

        Raises ``RenderingError`` as `segments` does.
        """
        pieces = self.template.pieces(conversation, answering=True)
        return "".join(text + self.template.decode_later(turn) for text, turn in pieces)

    def sent(self, conversation: Conversation) -> Conversation:
        """``conversation`` with the texts that make the server's template write its generated turns as they were."""
        return tuple(
            replace(message, content=(self.template.turn_text(message.token_ids),)) if message.token_ids else message
            for message in conversation
        )

    @staticmethod
    def agree(segments: Sequence[Sequence[int]], prompt_ids: Sequence[int], begun: Sequence[int] = ()) -> bool:
        """Whether ``prompt_ids`` are ``segments`` with other tokens, those of images, between them, and the ``begun``
        answer after them."""
        first, *later = [list(segment) for segment in (*segments[:-1], [*segments[-1], *begun])]
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
    def _placeholders(self) -> frozenset[int]:
        """Tokens in whose places images come: what the template writes for one, and an image's own."""
        processor: Any = self.template.processor
        written = processor.tokenizer.convert_tokens_to_ids(self._image) if self._image else None
        return frozenset({*getattr(processor, "image_token_ids", ()), *([] if written is None else [written])})

    @cached_property
    def _image(self) -> str | None:
        """What the template writes for an image; None for processors that do not say."""
        return getattr(self.template.processor, "image_token", None)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """Text that the processor puts before and after an image's tokens, which may be joined with what is there."""
        try:
            inputs = image_inputs(self.template.processor, Image.new("RGB", _SAMPLE))
        except KeyError:  # Llama 3.2 Vision's does not tell what it puts in an image's place: nothing but the token
            return "", ""
        return inputs.before, inputs.after

    def _surrounded(self, text: str) -> str:
        if self._image is None or self._image not in text:
            return text
        before, after = self._around
        return text.replace(self._image, f"{before}{self._image}{after}")


def _find(segment: Sequence[int], ids: Sequence[int], begin: int) -> int | None:
    """The first place at or after ``begin`` where ``segment`` stands in ``ids``."""
    length = len(segment)
    places = range(begin, len(ids) - length + 1)
    return next((at for at in places if ids[at : at + length] == segment), None)
