"""From a conversation to token ids: the checkpoint's own chat template, generated turns spliced in as ids."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture
from dualfocus_eval.engines.template import ChatTemplate, RenderingError, TurnIds
from dualfocus_eval.families import ImageInputs

__all__ = ["Boundary", "Prompt", "Renderer", "RenderingError"]


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
    pictures: tuple[ShownPicture, ...]
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
    """Renders conversations for one checkpoint."""

    encoder: ImageEncoder
    template: ChatTemplate

    def render(self, conversation: Conversation, *, answering: bool = False) -> Prompt:
        """The prompt up to where the assistant is to go on; see `ChatTemplate.pieces`. Raises ``RenderingError``."""
        pieces = self.template.pieces(conversation, answering=answering)
        pictures = self.encoder.shown(
            [part for message in conversation for part in message.content if isinstance(part, Picture)]
        )
        try:
            inputs = [self.encoder.preprocess(picture) for picture in pictures]
        except Exception as error:  # whatever one picture provokes must not end the others
            raise RenderingError("bad_image", f"the processor cannot prepare a picture: {error}") from error
        groups = _with_patches(pictures, inputs)
        encoded = self._encoded(pieces, [first for first, *_ in groups])
        ids, spans, turn_ends = self._expanded(encoded, groups)
        positions = self._positions(ids, spans, inputs)
        boundaries, running, hashed = _boundaries(ids, spans, pictures, turn_ends)
        image_token = inputs[0].token_id if inputs else self.encoder.image_token
        return Prompt(tuple(ids), pictures, tuple(spans), image_token, positions, boundaries, running, hashed)

    def _expanded(
        self, pieces: Sequence[tuple[list[int], TurnIds]], groups: Sequence[Sequence[ImageInputs]]
    ) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        """Ids with each placeholder replaced by those of its group of pictures, the pictures' spans, and the ends of
        generated turns."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        turn_ends: list[int] = []
        remaining = iter(groups)
        shown = 0
        for text_ids, spliced in pieces:
            for token in text_ids:
                if token not in (self.encoder.placeholder, self.encoder.image_token):
                    ids.append(token)
                    continue
                group = next(remaining, None)
                if group is None:
                    raise RenderingError("image_token_in_text", "the text contains the model's image placeholder")
                shown += 1
                for item in group:
                    start = len(ids)
                    ids.extend(item.ids)
                    spans.append((start, len(ids)))
            if spliced:
                ids.extend(spliced)
                turn_ends.append(len(ids))
        if shown != len(groups):
            raise RenderingError(
                "chat_template", f"the chat template shows {shown} of the conversation's {len(groups)} pictures"
            )
        return ids, spans, turn_ends

    def _positions(
        self, ids: Sequence[int], spans: Sequence[tuple[int, int]], inputs: Sequence[ImageInputs]
    ) -> torch.Tensor:
        family = self.encoder.family
        if family.positions is None:
            return torch.arange(len(ids)).unsqueeze(0)
        return family.positions(self.encoder.model, len(ids), spans, inputs)

    def _encoded(
        self, pieces: Sequence[tuple[str, TurnIds]], inputs: Sequence[ImageInputs]
    ) -> list[tuple[list[int], TurnIds]]:
        """``pieces`` with ids in place of their texts."""
        first, *later = self._with_surroundings([text for text, _ in pieces], inputs)
        encoded = [self.template.encode_first(first), *(self.template.encode_later(text) for text in later)]
        return list(zip(encoded, [turn for _, turn in pieces], strict=True))

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


def _with_patches(pictures: Sequence[ShownPicture], inputs: Sequence[ImageInputs]) -> list[list[ImageInputs]]:
    """What stands in the place of each picture: its inputs, and those of the local patch that it has in addition."""
    groups: list[list[ImageInputs]] = []
    for picture, item in zip(pictures, inputs, strict=True):
        if picture.as_patch:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _boundaries(
    ids: Sequence[int], spans: Sequence[tuple[int, int]], pictures: Sequence[ShownPicture], turn_ends: Sequence[int]
) -> tuple[tuple[Boundary, ...], Any, int]:
    """Cuts with the keys of all that precedes them, and the running hash at the last one."""
    keys = {end: picture.key for (_, end), picture in zip(spans, pictures, strict=True)}
    # A turn's last token was never fed back when the turn was cut by its length, so the cut may lie one before it.
    stored = {*keys, *turn_ends}
    ends = sorted(stored | {end - 1 for end in turn_ends})
    running = hashlib.blake2b(digest_size=16)
    boundaries: list[Boundary] = []
    done = 0
    for end in ends:
        running.update(array("q", ids[done:end]).tobytes())
        if end in keys:
            running.update(keys[end].encode())
        boundaries.append(Boundary(end, running.hexdigest(), end in stored))
        done = end
    # A prompt's last token is always computed, for its logits.
    return tuple(b for b in boundaries if b.end < len(ids)), running, done
