"""Whole conversations as the checkpoint's own processor prepares them for ``generate``: a left-padded batch.

The processor sees text only, so a mark stands in place of every generated turn. Afterwards the turn's ids take the
mark's place, in the ids and in everything else that the processor gives token by token.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.engines.template import ChatTemplate, RenderingError, TurnIds

__all__ = ["BatchInputs", "BatchPreparer", "Prepared"]

_MARK = "<|dualfocus_turn|>"
"""A special token of no checkpoint; it never reaches a model."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A conversation as texts and images, ready for the processor."""

    pieces: Sequence[tuple[str, TurnIds]]
    """See `ChatTemplate.pieces`."""
    pictures: tuple[Picture, ...]

    @property
    def text(self) -> str:
        """The whole prompt with marks in place of the generated turns."""
        return _MARK.join(text for text, _ in self.pieces)

    @property
    def turns(self) -> list[TurnIds]:
        """What takes the marks' places, in order."""
        return [turn for _, turn in self.pieces[:-1]]


@dataclass(frozen=True, eq=False)
class BatchInputs:
    """A batch as the model takes it, padded on the left."""

    tensors: Mapping[str, Any]
    """The model's arguments by name."""
    prompt_ids: tuple[tuple[int, ...], ...]
    """The token ids of every row, without padding."""


@dataclass(frozen=True, eq=False)
class BatchPreparer:
    """Prepares batches with a checkpoint's processor; changes nothing of it."""

    template: ChatTemplate
    pad_id: int

    @cached_property
    def _processor(self) -> Any:
        """The checkpoint's, with a tokenizer of its own that knows the mark."""
        processor = copy.copy(self.template.processor)
        processor.tokenizer = copy.deepcopy(processor.tokenizer)
        processor.tokenizer.add_tokens([AddedToken(_MARK, normalized=False)], special_tokens=True)
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token_id is None:
            processor.tokenizer.pad_token = processor.tokenizer.convert_ids_to_tokens(self.pad_id)
        return processor

    @cached_property
    def _mark_id(self) -> int:
        return int(self._processor.tokenizer.convert_tokens_to_ids(_MARK))

    @cached_property
    def _per_token(self) -> frozenset[str]:
        """Names of what the processor gives token by token: what grows when a text about the same image does."""
        picture = Picture(Image.new("RGB", (64, 48), "gray"))
        short, long = (
            self._processed([Prepared([(self._probe(words), ())], (picture,))]) for words in ("a", "a b c d e f g")
        )
        growth = long["input_ids"].shape[1] - short["input_ids"].shape[1]
        return frozenset(
            name
            for name, value in short.items()
            if isinstance(value, torch.Tensor)
            and value.dim() > 1
            and value.shape[:2] == short["input_ids"].shape[:2]
            and long[name].shape[1] - value.shape[1] == growth
        )

    def _probe(self, words: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": words}]
        return self.template.text([{"role": "user", "content": content}], continued=True)

    @cached_property
    def _placeholder(self) -> str | None:
        """What the chat template writes for an image, where the processor has it as its ``image_token``."""
        token = getattr(self._processor, "image_token", None)
        return token if token and self._probe("a").count(token) == 1 else None

    def prepared(self, conversation: Conversation, answering: bool = False) -> Prepared:
        """``conversation`` as `ChatTemplate.pieces` renders it. Raises ``RenderingError``."""
        pictures = tuple(part for message in conversation for part in message.content if isinstance(part, Picture))
        found = Prepared(self.template.pieces(conversation, answering=answering), pictures)
        shown = found.text.count(self._placeholder) if self._placeholder else len(pictures)
        if found.text.count(_MARK) != len(found.turns):
            raise RenderingError(
                "bad_conversation", f"the text contains {_MARK}, which stands for an earlier turn here"
            )
        if shown > len(pictures):
            raise RenderingError("image_token_in_text", "the text contains the model's image placeholder")
        if shown < len(pictures):
            raise RenderingError(
                "chat_template", f"the chat template shows {shown} of the conversation's {len(pictures)} pictures"
            )
        return found

    def batch(self, rows: Sequence[Prepared]) -> BatchInputs:
        """The model's inputs for ``rows``, all with images or all without. Raises what the processor does."""
        processed = self._processed(rows)
        columns = [
            self._columns(row, ids, mask)
            for row, ids, mask in zip(rows, processed["input_ids"], processed["attention_mask"], strict=True)
        ]
        width = max(len(column) for column in columns)
        tensors = {
            name: torch.stack(
                [_left_padded(v[[at for at, _ in c]], width) for v, c in zip(value, columns, strict=True)]
            )
            if name in self._per_token
            else value
            for name, value in processed.items()
        }
        prompt_ids = tuple(tuple(token for _, token in column) for column in columns)
        padded = [[self.pad_id] * (width - len(ids)) + list(ids) for ids in prompt_ids]
        return BatchInputs(tensors | {"input_ids": torch.tensor(padded)}, prompt_ids)

    def _processed(self, rows: Sequence[Prepared]) -> dict[str, Any]:
        """What the processor makes of the texts and images of ``rows``."""
        images = [[picture.pixels for picture in row.pictures] for row in rows]
        texts = [row.text for row in rows]
        options = {} if self.template.adds_begin(texts[0]) else {"add_special_tokens": False}
        return dict(
            self._processor(
                text=texts, images=images if any(images) else None, padding=True, return_tensors="pt", **options
            )
        )

    def _columns(self, row: Prepared, ids: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, int]]:
        """The row's tokens with its generated turns in place: (column of the processor's that each stands in, id)."""
        columns = [(at, int(ids[at])) for at in mask.nonzero()[:, 0].tolist()]
        marks = [place for place, (_, token) in enumerate(columns) if token == self._mark_id]
        following = [text for text, _ in row.pieces[1:]]
        for mark, turn, text in reversed(list(zip(marks, row.turns, following, strict=True))):
            after = [token for _, token in columns[mark + 1 :]]
            found, wanted = self._joined(text)
            if after[: len(found)] != found:
                found, wanted = [], []
            at = columns[mark][0]
            columns[mark : mark + 1 + len(found)] = [*((at, told) for told in turn), *((at, token) for token in wanted)]
        return columns

    def _joined(self, text: str) -> tuple[list[int], list[int]]:
        """How the beginning of ``text`` is tokenised after a mark, and how it is after the turn that the mark is for.

        SentencePiece may put a space before a text that follows a special token.
        """
        tokenizer = self._processor.tokenizer
        plain = re.split("|".join(map(re.escape, tokenizer.get_added_vocab())), text, maxsplit=1)[0]
        return tokenizer(_MARK + plain, add_special_tokens=False)["input_ids"][1:], self.template.encode_later(plain)


def _left_padded(values: torch.Tensor, width: int) -> torch.Tensor:
    """(length, ...) values after as many zeros as make them ``width``."""
    return torch.cat([values.new_zeros(width - len(values), *values.shape[1:]), values])
