"""From a conversation to token ids: the checkpoint's own chat template, generated turns spliced in as ids."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import torch

from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.families import ImageInputs

__all__ = ["Boundary", "Prompt", "Renderer", "RenderingError"]


class RenderingError(Exception):
    """A conversation that cannot be turned into a prompt; ``kind`` names the reason as ``Failure.kind`` does."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Boundary:
    """A place in a prompt where its key/value cache may be cut and reused: ``key`` stands for all content before it."""

    end: int
    key: str
    stored: bool = True
    """False for a place that is looked up only, as generation may have left states that end there."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A conversation as the model gets it."""

    ids: tuple[int, ...]
    """Token ids with every image token expanded."""
    pictures: tuple[Picture, ...]
    spans: tuple[tuple[int, int], ...]
    """Start and end of each picture's tokens in ``ids``, its markers included."""
    image_token: int
    """Those of ``ids`` in whose places the pictures' features come."""
    positions: torch.Tensor
    """Position ids, (axes, length): one axis, or several for multi-axis rotary embeddings."""
    boundaries: tuple[Boundary, ...]
    """Ascending; the end of each picture and of each generated turn."""
    prefix_hash: Any = field(repr=False)
    """Running hash of everything up to the last boundary, to key what is generated after the prompt."""
    hashed: int = 0
    """How many ids ``prefix_hash`` covers."""

    @property
    def next_position(self) -> int:
        """The position (on every axis) of the first token after the prompt."""
        return int(self.positions[:, -1].max()) + 1 if len(self.ids) else 0

    @property
    def last_boundary(self) -> Boundary:
        """The cut before the last token, which is always computed for its logits."""
        digest = self.prefix_hash.copy()
        digest.update(array("q", self.ids[self.hashed : -1]).tobytes())
        return Boundary(len(self.ids) - 1, digest.hexdigest())

    def key_with(self, continuation: Sequence[int]) -> str:
        """The key of the prompt followed by ``continuation``."""
        digest = self.prefix_hash.copy()
        digest.update(array("q", [*self.ids[self.hashed :], *continuation]).tobytes())
        return str(digest.hexdigest())


@dataclass(frozen=True, eq=False)
class Renderer:
    """Renders conversations for one checkpoint. ``end_ids`` are the tokens that end an answer."""

    encoder: ImageEncoder
    end_ids: frozenset[int]
    default_end_id: int
    """The end token where the template writes none."""

    def render(self, conversation: Conversation) -> Prompt:
        """The prompt up to where the assistant is to go on. Raises ``RenderingError``."""
        if not conversation or conversation[-1].role == "assistant":
            raise RenderingError("bad_conversation", "a conversation to be continued must end with the user's turn")
        pictures = tuple(part for message in conversation for part in message.content if isinstance(part, Picture))
        try:
            inputs = [self.encoder.preprocess(picture) for picture in pictures]
        except Exception as error:  # whatever one picture provokes must not end the others
            raise RenderingError("bad_image", f"the processor cannot prepare a picture: {error}") from error
        pieces = self._pieces(conversation, inputs)
        ids, spans, turn_ends = self._expanded(pieces, inputs)
        positions = self._positions(ids, spans, inputs)
        boundaries, running, hashed = _boundaries(ids, spans, pictures, turn_ends)
        image_token = inputs[0].token_id if inputs else self.encoder.image_token
        return Prompt(tuple(ids), pictures, tuple(spans), image_token, positions, boundaries, running, hashed)

    def _expanded(
        self, pieces: Sequence[tuple[list[int], tuple[int, ...]]], inputs: Sequence[ImageInputs]
    ) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        """Ids with each placeholder replaced by its picture's, the pictures' spans, and the ends of generated turns."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        turn_ends: list[int] = []
        for text_ids, spliced in pieces:
            for token in text_ids:
                if token not in (self.encoder.placeholder, self.encoder.image_token):
                    ids.append(token)
                    continue
                if len(spans) == len(inputs):
                    raise RenderingError("image_token_in_text", "the text contains the model's image placeholder")
                start = len(ids)
                ids.extend(inputs[len(spans)].ids)
                spans.append((start, len(ids)))
            if spliced:
                ids.extend(spliced)
                turn_ends.append(len(ids))
        if len(spans) != len(inputs):
            raise RenderingError(
                "chat_template", f"the chat template shows {len(spans)} of the conversation's {len(inputs)} pictures"
            )
        return ids, spans, turn_ends

    def _positions(
        self, ids: Sequence[int], spans: Sequence[tuple[int, int]], inputs: Sequence[ImageInputs]
    ) -> torch.Tensor:
        family = self.encoder.family
        if family.positions is None:
            return torch.arange(len(ids)).unsqueeze(0)
        return family.positions(self.encoder.model, len(ids), spans, inputs)

    def answer_ids(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Ids of ``text`` as the answer to ``conversation``, as the template would write it, and its end token."""
        marker = "answer-goes-here"
        messages = [_template_message(message) for message in conversation]
        head = self._template(messages, continued=True)
        answered = [*messages, {"role": "assistant", "content": [{"type": "text", "text": marker}]}]
        before, _, after = self._template(answered, continued=False).partition(marker)
        gap = before[len(head) :] if before.startswith(head) else ""
        closing = self._encode_later(after)
        end = closing[0] if closing and closing[0] in self.end_ids else self.default_end_id
        return (*self._encode_later(gap + text), end)

    def _template(self, messages: Sequence[dict[str, Any]], continued: bool) -> str:
        """The chat template's text, ending where the assistant goes on if ``continued``."""
        try:
            text: str = self.encoder.processor.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=continued
            )
        except jinja2.TemplateError as error:
            raise RenderingError("chat_template", f"the chat template refuses the conversation: {error}") from error
        return text

    def _pieces(
        self, conversation: Conversation, inputs: Sequence[ImageInputs]
    ) -> list[tuple[list[int], tuple[int, ...]]]:
        """The prompt as pairs of (ids of template text, ids of the generated turn after it)."""
        markers: dict[int, str] = {}
        messages: list[dict[str, Any]] = []
        texts: list[str] = []
        consumed = ""

        for index, message in enumerate(conversation):
            if message.role == "assistant" and message.token_ids is not None:
                head = self._template(messages, continued=True)
                texts.append(head[len(consumed) :])
                markers[index] = f"answer-{index}-goes-here"
                content = [{"type": "text", "text": markers[index]}]
                messages.append({"role": "assistant", "content": content})
                before, found, _ = self._template(messages, continued=False).partition(markers[index])
                # The turn's ids follow the generation prompt, as when they were generated. What the template puts
                # between the two on a second look may only be white space: the generated ids carry their own.
                if not found or not before.startswith(head) or before[len(head) :].strip():
                    raise RenderingError(
                        "chat_template",
                        "the chat template renders an answered turn differently from the prompt that it answers, "
                        "so a second pass cannot follow the first; use a template whose turns only append",
                    )
                consumed = before + markers[index]
            else:
                messages.append(_template_message(message))
        last = self._template(messages, continued=True)
        if not last.startswith(consumed):
            raise RenderingError("chat_template", "the chat template changes earlier turns when a later one is added")
        texts.append(last[len(consumed) :])
        texts = self._with_surroundings(texts, inputs)
        spliced = [self._without_end(conversation[index].token_ids or ()) for index in markers]
        encoded = [self._encode_first(texts[0]), *(self._encode_later(text) for text in texts[1:])]
        return list(zip(encoded, [*spliced, ()], strict=True))

    def _with_surroundings(self, texts: list[str], inputs: Sequence[ImageInputs]) -> list[str]:
        """``texts`` with what the processor puts before and after each picture's own tokens."""
        if not any(item.before or item.after for item in inputs):
            return texts
        placeholder = self.encoder.processor.image_token
        remaining = iter(inputs)

        def surrounded(match: re.Match[str]) -> str:
            item = next(remaining, None)
            return f"{item.before}{placeholder}{item.after}" if item else placeholder

        return [re.sub(re.escape(placeholder), surrounded, text) for text in texts]

    def _without_end(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        # The end token of a turn is the template's to write (or, as LLaVA-1.5's on the hub, to leave out).
        return ids[:-1] if ids and ids[-1] in self.end_ids else ids

    def _encode_first(self, text: str) -> list[int]:
        tokenizer = self.encoder.processor.tokenizer
        begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        return list(tokenizer(text, add_special_tokens=not begins)["input_ids"])

    def _encode_later(self, text: str) -> list[int]:
        """Ids of ``text`` as it goes on after other text: SentencePiece would put a space before a text of its own."""
        tokenizer = self.encoder.processor.tokenizer
        anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        ids = list(tokenizer("a" + text, add_special_tokens=False)["input_ids"])
        if ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _template_message(message: Message) -> dict[str, Any]:
    content = [
        {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part} for part in message.content
    ]
    return {"role": message.role, "content": content}


def _boundaries(
    ids: Sequence[int], spans: Sequence[tuple[int, int]], pictures: Sequence[Picture], turn_ends: Sequence[int]
) -> tuple[tuple[Boundary, ...], Any, int]:
    """Cuts with the keys of all that precedes them, and the running hash at the last one."""
    digests = {end: picture.digest for (_, end), picture in zip(spans, pictures, strict=True)}
    # A turn's last token was never fed back when the turn was cut by its length, so the cut may lie one before it.
    stored = {*digests, *turn_ends}
    ends = sorted(stored | {end - 1 for end in turn_ends})
    running = hashlib.blake2b(digest_size=16)
    boundaries: list[Boundary] = []
    done = 0
    for end in ends:
        running.update(array("q", ids[done:end]).tobytes())
        if end in digests:
            running.update(digests[end].encode())
        boundaries.append(Boundary(end, running.hexdigest(), end in stored))
        done = end
    # A prompt's last token is always computed, for its logits.
    return tuple(b for b in boundaries if b.end < len(ids)), running, done
