"""An engine that answers by rule, for tests of what is built on top of one: it records what it is asked, and counts.

Its tokens are characters: token id = code point + 1, 0 = end of sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)

__all__ = ["END", "ScriptedEngine", "completion", "prompt_of", "text_ids"]

END = 0


def text_ids(text: str) -> tuple[int, ...]:
    """Token ids of a whole answer, end token included."""
    return (*(ord(character) + 1 for character in text), END)


def text_of(token_ids: Sequence[int]) -> str:
    return "".join(chr(token - 1) for token in token_ids if token != END)


def prompt_of(conversation: Conversation) -> str:
    """The text of the last user turn."""
    return "".join(part for part in conversation[-1].content if isinstance(part, str))


def completion(text: str, nll: float = 0.5, max_new_tokens: int = 1_000) -> Completion:
    """``text`` as a generated answer whose tokens all have the log-probability ``-nll``."""
    ids = text_ids(text)[:max_new_tokens]
    return Completion(text_of(ids), ids, (-nll,) * len(ids), "eos" if ids[-1] == END else "length")


Answer = str | tuple[str, float] | Failure | Exception


@dataclass
class ScriptedEngine:
    """``answer(conversation)`` gives the text, a (text, NLL) pair, a Failure to return or an exception to raise.

    ``nll(conversation, text)`` gives the NLL of each token of a scored continuation, or a Failure or an exception.
    """

    answer: Callable[[Conversation], Answer]
    nll: Callable[[Conversation, str], float | Failure | Exception] = lambda conversation, text: 1.0
    size: tuple[int, int] | Exception = (100, 100)
    """What `encoded_size` says of every picture."""
    counters: Counters = field(default_factory=Counters)
    generated: list[list[GenerateRequest]] = field(default_factory=list)
    """The requests of every generate call."""
    scored: list[list[ScoreRequest]] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        self.generated.append(list(requests))
        return [self._generate(request) for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        self.scored.append(list(requests))
        return [self._score(request) for request in requests]

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        return text_ids(text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        if isinstance(self.size, Exception):
            raise self.size
        return self.size

    def _generate(self, request: GenerateRequest) -> Completion | Failure:
        answer = self.answer(request.conversation)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Failure):
            return answer
        text, nll = (answer, 0.5) if isinstance(answer, str) else answer
        result = completion(text, nll, request.max_new_tokens)
        self._count(request.conversation)
        self.counters.decode_steps += len(result.token_ids)
        return result

    def _score(self, request: ScoreRequest) -> Score | Failure:
        nll = self.nll(request.conversation, text_of(request.continuation))
        if isinstance(nll, Exception):
            raise nll
        if isinstance(nll, Failure):
            return nll
        self._count(request.conversation)
        length = len(request.continuation)
        return Score((-nll,) * length, (nll < 1.0,) * length)

    def _count(self, conversation: Conversation) -> None:
        parts = [part for message in conversation for part in message.content]
        self.counters.images_encoded += sum(isinstance(part, Picture) for part in parts)
        self.counters.tokens_prefilled += sum(len(part) for part in parts if isinstance(part, str))
