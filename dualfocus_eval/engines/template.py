"""The checkpoint's own chat template: its text around the turns that the model has generated, and the ids of texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2

from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.thinking import ThinkingFormat

__all__ = ["ChatTemplate", "RenderingError", "TurnIds", "prompt_parts"]

TurnIds = tuple[int, ...]
"""What the model generated for a turn, without an end token."""


def prompt_parts(processor: Any, prompt_ids: Sequence[int]) -> tuple[str | int, ...]:
    """A prompt in reading order, special tokens included: texts, and the lengths of runs of image tokens."""
    image_tokens = frozenset(getattr(processor, "image_token_ids", ()))
    runs = itertools.groupby(prompt_ids, key=image_tokens.__contains__)
    return tuple(len(list(ids)) if of_image else processor.tokenizer.decode(list(ids)) for of_image, ids in runs)


class RenderingError(Exception):
    """A conversation that cannot be turned into a prompt; ``kind`` names the reason as ``Failure.kind`` does."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """The chat template of one processor. ``end_ids`` are the tokens that end an answer."""

    processor: Any
    end_ids: frozenset[int]
    default_end_id: int
    """The end token where the template writes none."""
    thinking: ThinkingFormat | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ChatTemplate:
        """The checkpoint's."""
        return cls(checkpoint.processor, checkpoint.end_ids, checkpoint.default_end_id, checkpoint.thinking)

    def text(self, messages: Sequence[dict[str, Any]], continued: bool) -> str:
        """The template's text, ending where the assistant goes on if ``continued``. Raises ``RenderingError``."""
        try:
            text: str = self.processor.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=continued
            )
        except jinja2.TemplateError as error:
            raise RenderingError("chat_template", f"the chat template refuses the conversation: {error}") from error
        return text

    def pieces(self, conversation: Conversation, *, answering: bool = False) -> list[tuple[str, TurnIds]]:
        """The prompt up to where the assistant is to go on, as pairs of (text, ids of the generated turn after it).

        The last pair has no turn. With ``answering`` a block of thinking at its end is closed, so that the answer
        follows. Raises ``RenderingError``, also where the template changes or moves earlier turns.
        """
        if not conversation or conversation[-1].role == "assistant":
            raise RenderingError("bad_conversation", "a conversation to be continued must end with the user's turn")
        turns = [message.token_ids if message.role == "assistant" else None for message in conversation]
        messages = [
            self._message(message) if turn is None else self._turn(_marker(index))
            for index, (message, turn) in enumerate(zip(conversation, turns, strict=True))
        ]
        whole = self.text(messages, continued=True)
        pairs: list[tuple[str, TurnIds]] = []
        done = 0
        for index, turn in enumerate(turns):
            if turn is None:
                continue
            end = whole.find(_marker(index), done)
            head = self.text(messages[:index], continued=True)
            pairs.append((self._before_turn(head, whole[: max(end, 0)])[done:], self._without_end(turn)))
            done = end + len(_marker(index))
        if answering:
            whole = self._answering(messages, whole)
        return [*pairs, (whole[done:], ())]

    def answer_ids(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Ids of ``text`` as the answer to ``conversation``, as the template would write it, and its end token."""
        gap, after = self._around_answer([self._message(message) for message in conversation])
        closing = self.encode_later(after)
        end = closing[0] if closing and closing[0] in self.end_ids else self.default_end_id
        return (*self.encode_later(gap + text), end)

    def turn_text(self, ids: TurnIds) -> str:
        """What the template is to be given for an answered turn of these ``ids``, so that it writes what they say."""
        return self.begun_text(self._without_end(ids))

    def begun_text(self, ids: Sequence[int]) -> str:
        """The same for the first ``ids`` of an answer: without the space before it that the template writes itself."""
        return self.decode_later(ids).removeprefix(self._gap)

    def _before_turn(self, head: str, before: str) -> str:
        """What comes before a generated turn, given the prompt that it answered and the text before it now.

        The turn's ids follow the generation prompt, as when they were generated. What the template puts between the two
        on a second look may only be white space: the generated ids carry their own. LLaVA-OneVision's writes " \\n"
        before an answer where it ends the prompt in "\\n". A block of thinking is not part of an earlier turn: there
        the template's later text counts.
        """
        if before.rstrip() == head.rstrip():
            return head
        if self.thinking is not None and self.thinking.same_but_for_block(head, before):
            return before
        raise RenderingError(
            "chat_template",
            "the chat template changes, moves or drops an answered turn when another one follows, so a second pass "
            "cannot follow the first; use a template whose turns only append, or strategy=macro",
        )

    def _answering(self, messages: Sequence[dict[str, Any]], head: str) -> str:
        """``head``, the prompt of ``messages``, with a block of thinking as the template writes it for no thinking."""
        if self.thinking is None or self.thinking.is_closed(head):
            return head
        before = self.text([*messages, self._turn(_marker())], continued=False).partition(_marker())[0]
        if self.thinking.is_closed(before) and self.thinking.same_but_for_block(head, before):
            return before
        return self.thinking.close(head) if self.thinking.is_open(head) else head

    def adds_begin(self, text: str) -> bool:
        """Whether the tokenizer is to put its begin token before ``text``: not where the template has written it."""
        begin = self.processor.tokenizer.bos_token
        return begin is None or not text.startswith(begin)

    def encode_first(self, text: str) -> list[int]:
        """Ids of ``text`` at the beginning of a prompt."""
        return list(self.processor.tokenizer(text, add_special_tokens=self.adds_begin(text))["input_ids"])

    def encode_later(self, text: str) -> list[int]:
        """Ids of ``text`` as it goes on after other text: SentencePiece would put a space before a text of its own."""
        tokenizer = self.processor.tokenizer
        anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        ids = list(tokenizer("a" + text, add_special_tokens=False)["input_ids"])
        if ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode_later(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` as it stands after other text: SentencePiece leaves out a space at a text's beginning."""
        tokenizer = self.processor.tokenizer
        anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        before, both = (
            str(tokenizer.decode(one, clean_up_tokenization_spaces=False)) for one in (anchor, [*anchor, *ids])
        )
        return both.removeprefix(before)

    @cached_property
    def _gap(self) -> str:
        return self._around_answer([self._message(Message("user", ("?",)))])[0]

    def _around_answer(self, messages: Sequence[dict[str, Any]]) -> tuple[str, str]:
        """What the template writes between the prompt of ``messages`` and an answer to it, and after that."""
        head = self._answering(messages, self.text(messages, continued=True))
        before, _, after = self.text([*messages, self._turn(_marker())], continued=False).partition(_marker())
        return before[len(head) :] if before.startswith(head) else "", after

    def _message(self, message: Message) -> dict[str, Any]:
        if message.role in self._plain_roles:
            return {"role": message.role, "content": "".join(part for part in message.content if isinstance(part, str))}
        content = [
            {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part}
            for part in message.content
        ]
        return {"role": message.role, "content": content}

    def _turn(self, text: str) -> dict[str, Any]:
        return self._message(Message("assistant", (text,)))

    @cached_property
    def _plain_roles(self) -> frozenset[str]:
        """Roles whose content the template takes for a text, so that it would print a list: GLM-4.1V's for the
        assistant and the system, Gemma 4's for the system."""
        content = [{"type": "text", "text": _marker()}]
        asking = {"role": "user", "content": [{"type": "text", "text": "?"}]}
        found = set()
        for role in ("system", "assistant"):
            turn = {"role": role, "content": content}
            try:
                text = self.text([turn, asking] if role == "system" else [asking, turn], continued=False)
            except RenderingError:  # no such role
                continue
            found |= {role} if str(content) in text else set()
        return frozenset(found)

    def _without_end(self, ids: tuple[int, ...]) -> TurnIds:
        # The end token of a turn is the template's to write (or, as LLaVA-1.5's on the hub, to leave out).
        closing = self.thinking.answer_end if self.thinking else None
        return ids[:-1] if ids and (ids[-1] in self.end_ids or ids[-1] == closing) else ids


def _marker(index: int | None = None) -> str:
    """What stands for the generated turn of that number, or for an answer, while the template renders it."""
    return "answer-goes-here" if index is None else f"answer-{index}-goes-here"
