"""Thinking before the answer: where it begins and ends, among generated ids and in texts of the chat template.

Every engine can use it: it knows a tokenizer and token ids, and nothing of how they were generated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dualfocus_eval.engines.base import Failure, Thinking
from dualfocus_eval.families import ThinkingMarkers

__all__ = ["ThinkingFormat", "ThinkingReader", "unanswered"]

_UNANSWERED = {
    "thinking_unfinished": "the model ended its turn after {thought}",
    "thinking_budget": "{thought} and no answer; raise max_thinking_tokens",
    "too_long": "{thought} and no answer: the model takes no more tokens",
}

_PROMPT_TAIL = 32
"""Tokens at the end of a prompt among which an opened block would be."""


def unanswered(kind: str, count: int) -> Failure:
    """The failure of a thought of ``count`` tokens that no answer follows; ``kind`` says why."""
    thought = f"{count} token{'s' if count != 1 else ''} of thinking"
    return Failure(kind, _UNANSWERED[kind].format(thought=thought))


@dataclass(frozen=True, eq=False)
class ThinkingFormat:
    """How one checkpoint marks its thinking."""

    markers: ThinkingMarkers
    tokenizer: Any

    @classmethod
    def of(cls, processor: Any, markers: ThinkingMarkers) -> ThinkingFormat | None:
        """The format of the checkpoint of ``processor``; None for one that has no such ``markers``.

        It has them where its tokenizer has the closing one as a token, or its chat template writes both.
        """
        template = str(processor.chat_template or "")
        written = markers.opening in template and markers.closing in template
        if not written and markers.closing not in processor.tokenizer.get_added_vocab():
            return None
        return cls(markers, processor.tokenizer)

    @cached_property
    def answer_end(self) -> int | None:
        """The token that closes a marked answer; None where the tokenizer has none."""
        added: dict[str, int] = self.tokenizer.get_added_vocab()
        return added.get(self.markers.answer_closing) if self.markers.answer_opening in added else None

    @cached_property
    def _reach(self) -> int:
        """How many of the latest tokens the closing marker may take."""
        closing = self.markers.closing
        return 1 if closing in self.tokenizer.get_added_vocab() else len(closing)

    @cached_property
    def _block(self) -> re.Pattern[str]:
        opening, closing = re.escape(self.markers.opening), re.escape(self.markers.closing)
        return re.compile(rf"{opening}\s*({closing}\s*)?\Z")

    def text(self, ids: Sequence[int]) -> str:
        """Decoding of ``ids``, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def is_open(self, text: str) -> bool:
        """Whether ``text`` ends with a block that is open."""
        block = self._block.search(text)
        return block is not None and block[1] is None

    def is_closed(self, text: str) -> bool:
        """Whether ``text`` ends with an empty block."""
        block = self._block.search(text)
        return block is not None and block[1] is not None

    def block_at_end(self, text: str) -> str:
        """The block that ``text`` ends with, open or empty; an empty text where there is none."""
        block = self._block.search(text)
        return block[0] if block else ""

    def same_but_for_block(self, one: str, other: str) -> bool:
        """Whether two texts differ in nothing but a block at their ends, open, empty or missing."""
        return self._block.sub("", one).rstrip() == self._block.sub("", other).rstrip()

    def close(self, text: str) -> str:
        """``text``, which ends with an open block, with the block closed as chat templates close an empty one."""
        return f"{text.rstrip()}\n\n{self.markers.closing}\n\n"

    def closes(self, ids: Sequence[int]) -> bool:
        """Whether thinking ``ids`` have come to the closing marker with their latest token."""
        return self.markers.closing in self.text(ids[-self._reach :])

    def reader(self, prompt_ids: Sequence[int]) -> ThinkingReader:
        """Follows what the model generates after ``prompt_ids``."""
        return ThinkingReader(self, inside=self.is_open(self.text(prompt_ids[-_PROMPT_TAIL:])))

    def answer_begin(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> int | None:
        """How many of the generated ``ids`` come before the answer; None where the thinking does not end."""
        reader = self.reader(prompt_ids)
        for end in range(1, len(ids) + 1):
            reader.read(ids[:end])
        return reader.before(len(ids))

    def thinking(self, ids: Sequence[int]) -> Thinking:
        """The record of ``ids``, all that was generated before an answer."""
        before, closing, after = self.text(ids).rpartition(self.markers.closing)
        text = before if closing else after
        return Thinking(text.strip().removeprefix(self.markers.opening).strip(), len(ids))


@dataclass(eq=False)
class ThinkingReader:
    """Finds, token by token, where the answer begins in what is generated.

    A block may be open from the prompt on, or open with the first tokens. White space after a block belongs to it, as
    chat templates leave both out of earlier turns; so does the marker that opens an answer.
    """

    format: ThinkingFormat
    inside: bool
    """Whether the latest token is in a block."""
    begin: int | None = None
    """How many tokens come before the answer; None while that is not known."""
    marked: bool = False
    """Whether the answer was opened by a marker, so that another one closes it."""
    _from: int = field(default=0, repr=False)
    """The first token of which it is not known what it is."""

    def read(self, ids: Sequence[int]) -> None:
        """Take note of the latest of ``ids``, which are all that was generated so far."""
        if self.begin is not None:
            return
        if self.inside:
            if self.format.closes(ids[self._from :]):
                self.inside, self._from = False, len(ids)
            return
        markers = self.format.markers
        text = self.format.text(ids[self._from :]).lstrip()
        if text.startswith(markers.opening):
            self.inside, self._from = True, len(ids)
        elif self.format.answer_end is not None and text.startswith(markers.answer_opening):
            self.marked, self._from = True, len(ids)
        elif not any(marker.startswith(text) for marker in (markers.opening, markers.answer_opening)):
            self.begin = self._first_word(ids)

    def before(self, length: int) -> int | None:
        """How many of ``length`` generated tokens come before the answer; None while the model is thinking."""
        if self.inside:
            return None
        return self.begin if self.begin is not None else length if self._from else 0

    def after_thinking(self, length: int) -> int:
        """How many of ``length`` generated tokens count as the answer's: white space too until its first word."""
        return length - (self._from if self.begin is None else self.begin)

    def closed_by(self, token: int) -> bool:
        """Whether ``token`` is the marker that closes the answer."""
        return self.marked and self.begin is not None and token == self.format.answer_end

    def _first_word(self, ids: Sequence[int]) -> int:
        if not self._from:
            return 0
        ends = range(self._from + 1, len(ids) + 1)
        return next(end for end in ends if self.format.text(ids[self._from : end]).strip()) - 1
