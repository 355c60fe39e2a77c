"""The checkpoint's own chat template: its text around the turns that the model has generated, and the ids of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint

__all__ = ["ChatTemplate", "RenderingError", "TurnIds"]

TurnIds = tuple[int, ...]
"""What the model generated for a turn, without an end token."""


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

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ChatTemplate:
        """The checkpoint's."""
        return cls(checkpoint.processor, checkpoint.end_ids, checkpoint.default_end_id)

    def text(self, messages: Sequence[dict[str, Any]], continued: bool) -> str:
        """The template's text, ending where the assistant goes on if ``continued``. Raises ``RenderingError``."""
        try:
            text: str = self.processor.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=continued
            )
        except jinja2.TemplateError as error:
            raise RenderingError("chat_template", f"the chat template refuses the conversation: {error}") from error
        return text

    def pieces(self, conversation: Conversation) -> list[tuple[str, TurnIds]]:
        """The prompt up to where the assistant is to go on, as pairs of (text, ids of the generated turn after it).

        The last pair has no turn. Raises ``RenderingError``, also where the template changes or moves earlier turns.
        """
        if not conversation or conversation[-1].role == "assistant":
            raise RenderingError("bad_conversation", "a conversation to be continued must end with the user's turn")
        turns: list[TurnIds] = []
        messages: list[dict[str, Any]] = []
        texts: list[str] = []
        consumed = ""
        for index, message in enumerate(conversation):
            if message.role != "assistant" or message.token_ids is None:
                messages.append(_template_message(message))
                continue
            head = self.text(messages, continued=True)
            texts.append(head[len(consumed) :])
            turns.append(self._without_end(message.token_ids))
            marker = f"answer-{index}-goes-here"
            messages.append({"role": "assistant", "content": [{"type": "text", "text": marker}]})
            before, found, _ = self.text(messages, continued=False).partition(marker)
            # The turn's ids follow the generation prompt, as when they were generated. What the template puts between
            # the two on a second look may only be white space: the generated ids carry their own.
            if not found or not before.startswith(head) or before[len(head) :].strip():
                raise RenderingError(
                    "chat_template",
                    "the chat template renders an answered turn differently from the prompt that it answers, "
                    "so a second pass cannot follow the first; use a template whose turns only append",
                )
            consumed = before + marker
        last = self.text(messages, continued=True)
        if not last.startswith(consumed):
            raise RenderingError("chat_template", "the chat template changes earlier turns when a later one is added")
        texts.append(last[len(consumed) :])
        return list(zip(texts, [*turns, ()], strict=True))

    def answer_ids(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Ids of ``text`` as the answer to ``conversation``, as the template would write it, and its end token."""
        marker = "answer-goes-here"
        messages = [_template_message(message) for message in conversation]
        head = self.text(messages, continued=True)
        answered = [*messages, {"role": "assistant", "content": [{"type": "text", "text": marker}]}]
        before, _, after = self.text(answered, continued=False).partition(marker)
        gap = before[len(head) :] if before.startswith(head) else ""
        closing = self.encode_later(after)
        end = closing[0] if closing and closing[0] in self.end_ids else self.default_end_id
        return (*self.encode_later(gap + text), end)

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

    def _without_end(self, ids: tuple[int, ...]) -> TurnIds:
        # The end token of a turn is the template's to write (or, as LLaVA-1.5's on the hub, to leave out).
        return ids[:-1] if ids and ids[-1] in self.end_ids else ids


def _template_message(message: Message) -> dict[str, Any]:
    content = [
        {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part} for part in message.content
    ]
    return {"role": message.role, "content": content}
