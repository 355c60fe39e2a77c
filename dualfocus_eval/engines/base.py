"""What the method asks of whatever runs the model: the contract of every engine.

An engine is stateless for its caller. Conversations go in, completions and scores come out in the same order; batching,
prefix reuse and retries are the engine's own business and never change an answer. This module imports no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.numbers import Integer, Logprobs, Number, TokenIds

__all__ = [
    "DEFAULT_THINKING_TOKENS",
    "Completion",
    "Conversation",
    "Counters",
    "Engine",
    "Failure",
    "FinishReason",
    "GenerateRequest",
    "Message",
    "Picture",
    "RunEndedError",
    "Score",
    "ScoreRequest",
    "Thinking",
    "mean_nll",
    "perplexity_of",
]

DEFAULT_THINKING_TOKENS = 1024

FinishReason = Literal["eos", "stop", "length"]


@dataclass(frozen=True, eq=False)
class Picture:
    """An RGB image as the model is to see it, identified by its content.

    Two pictures are equal when their size and pixels are; engines key cached features and prefixes by ``digest``.
    """

    pixels: Image.Image
    patch: Picture | None = None
    """A part of it that is shown as one more of its local patches; only for families with `Family.local_patch`."""

    @cached_property
    def digest(self) -> str:
        """Hex digest of size and RGB pixels (16 bytes of BLAKE2b), and of the patch if there is one."""
        content = hashlib.blake2b(repr(self.pixels.size).encode(), digest_size=16)
        content.update(self.pixels.tobytes())
        if self.patch is not None:
            content.update(self.patch.digest.encode())
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    ``content`` holds text and pictures in reading order. An assistant message that the engine itself generated carries
    the generated ``token_ids``; they are spliced in as they are, never re-tokenised from the text.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Picture, ...]
    token_ids: tuple[int, ...] | None = None


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class GenerateRequest:
    """Greedy continuation of ``conversation`` by the assistant, to ``max_new_tokens`` or the first ``stop`` string.

    Both concern the answer. A checkpoint that thinks before it answers may spend ``max_thinking_tokens`` more on that;
    with 0 its block of thinking is closed before it begins.
    """

    conversation: Conversation
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    max_thinking_tokens: int = DEFAULT_THINKING_TOKENS
    unmarked: bool = False
    """Whether the text is to be scored, so that the marks that some checkpoints put around an answer are left out."""

    @property
    def answers_at_once(self) -> bool:
        """Whether the prompt leaves no room for thinking."""
        return self.max_thinking_tokens == 0

    def most_tokens(self, *, thinks: bool) -> int:
        """How many tokens may be generated; with thinking, the white space before the answer may be as long as it."""
        return self.max_new_tokens + (self.max_thinking_tokens + self.max_new_tokens if thinks else 0)

    def stopped_at(self, text: str) -> int | None:
        """Where the first stop string begins in ``text``; None where there is none."""
        return min((at for at in (text.find(stop) for stop in self.stop if stop) if at >= 0), default=None)


@dataclass(frozen=True)
class ScoreRequest:
    """The likelihood of ``continuation`` (token ids, end token included where it counts) after ``conversation``.

    It is scored as an answer: a block of thinking, which some checkpoints begin with, is empty.
    """

    conversation: Conversation
    continuation: tuple[int, ...]

    @property
    def answers_at_once(self) -> bool:
        """True: the continuation is an answer."""
        return True


def perplexity_of(cost: float) -> float:
    """exp(cost), a cost being a mean negative log-likelihood in nats; infinite where that is no number any more."""
    try:
        return math.exp(cost)
    except OverflowError:
        return math.inf


def mean_nll(logprobs: Sequence[float]) -> float:
    """Mean negative log-likelihood per token in nats, the exponent of Eq. 7; NaN without tokens."""
    return -math.fsum(logprobs) / len(logprobs) if logprobs else math.nan


@dataclass(frozen=True)
class Thinking:
    """What a model wrote before its answer."""

    text: str
    """Without the markers around it."""
    tokens: Integer
    """Generated tokens, the markers included."""


@dataclass(frozen=True)
class Completion:
    """One greedy answer.

    ``token_ids`` and ``logprobs`` run over every generated token of the answer, the end token included when ``finish``
    is ``"eos"``; ``text`` is their decoding without special tokens, cut before the first stop string. What the model
    thought before is no part of them.
    """

    text: str
    token_ids: TokenIds
    logprobs: Logprobs
    finish: FinishReason
    gap: Number | None = None
    """The smallest difference between the two best log-probabilities over the generated tokens, in nats: below the
    noise of another machine's arithmetic the answer may come out otherwise. None where it is not known."""
    thinking: Thinking | None = None
    """None where the model did not think."""

    @property
    def generated(self) -> int:
        """Generated tokens, those of the thinking included."""
        return len(self.token_ids) + (self.thinking.tokens if self.thinking else 0)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood per generated token (Eq. 7 before the exponential)."""
        return mean_nll(self.logprobs)

    @property
    def perplexity(self) -> float:
        """exp(NLL), Eq. 7; 1 is certain, NaN without tokens."""
        return perplexity_of(self.nll)


@dataclass(frozen=True)
class Score:
    """Per-token log-probabilities of a given continuation, and whether each token is the model's own first choice."""

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    method: str | None = None
    """How a server was made to compute them (`engines.server.scoring`); None of an engine in this process."""

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood per continuation token."""
        return mean_nll(self.logprobs)


@dataclass(frozen=True)
class Failure:
    """Why one request has no result; the other requests of the call are not affected.

    ``kind`` is a short stable name that runs count by: ``out_of_memory``, ``too_long``, ``not_finite``, ...
    """

    kind: str
    message: str


@dataclass
class Counters:
    """What an engine did, summed over its life. Tokens count real positions, never padding."""

    images_encoded: int = 0
    tokens_prefilled: int = 0
    tokens_reused: int = 0
    decode_steps: int = 0
    """Tokens fed one at a time, summed over rows."""
    batch_halvings: int = 0
    """How often a batch did not fit into memory and was split."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by phase: preprocess, vision, prefill, decode."""
    requests: int = 0
    """Requests that servers answered."""
    tokens_untold: int = 0
    """Of the tokens prefilled, those of prompts of which a server did not say how much it has reused."""
    images_sent: int = 0
    """Images in requests to servers."""
    images_named: int = 0
    """Of the images sent, those that went by their name alone, because the server had them already."""
    thinking_tokens: int = 0
    """Tokens generated before answers, those of answers that never began included."""

    def since(self, before: Counters) -> Counters:
        """What was done after ``before`` was taken of the same engine."""
        seconds = {phase: spent - before.seconds.get(phase, 0.0) for phase, spent in self.seconds.items()}
        counts = {name: value - getattr(before, name) for name, value in vars(self).items() if name != "seconds"}
        return Counters(**counts, seconds=seconds)


class RunEndedError(UserError):
    """Why no further request of this run can be answered: an engine raises it in the place of results."""


class Engine(Protocol):
    """Runs a vision-language model greedily; see the module's docstring for what callers may rely on."""

    @property
    def counters(self) -> Counters: ...

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Continue every conversation; results in the order of the requests."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """Score every continuation after its conversation; results in the order of the requests."""
        ...

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` as the assistant's answer to ``conversation``, end token included.

        For texts that the model did not generate itself (options of a multiple-choice question, loglikelihood targets).
        """
        ...

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """(width, height) in pixels of ``picture`` as the image processor feeds it to the vision encoder.

        Box conventions in absolute pixels (Qwen2.5-VL) are relative to this size.
        """
        ...
