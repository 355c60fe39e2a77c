"""What a server answers, read strictly: a reply that lacks what was asked for is an error, never a shorter answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError

__all__ = ["BadReplyError", "Choice", "Reply", "finite", "is_floor", "not_a", "read_reply"]

_FLOOR = -9999.0
"""What vLLM writes in the place of a log-probability that is NaN or minus infinity."""

_VLLM = "vllm-"
"""What its ``system_fingerprint`` begins with, unless it was started with another --fingerprint-mode."""


class BadReplyError(Exception):
    """A reply that is no chat completion, or lacks what was asked for; ``kind`` as `Failure.kind`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def is_floor(logprob: float) -> bool:
    """Whether ``logprob`` stands for one that is no number."""
    return logprob <= _FLOOR


def finite(logprob: float | None) -> float:
    """``logprob``; raises ``BadReplyError`` where it is no number."""
    if logprob is None or not math.isfinite(logprob) or is_floor(logprob):
        raise BadReplyError("not_finite", "the server sent a log-probability that is NaN or infinite")
    return logprob


class TopLogprob(BaseModel):
    token: str
    logprob: float | None


class TokenLogprob(BaseModel):
    token: str
    logprob: float | None
    top_logprobs: list[TopLogprob] = []

    @property
    def likeliest(self) -> list[float]:
        """The log-probabilities of the likeliest tokens, as many as the server tells, the greatest first."""
        return sorted((top.logprob for top in self.top_logprobs if top.logprob is not None), reverse=True)


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob] | None = None


class ReplyMessage(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @property
    def thought(self) -> str | None:
        """What the server took for thinking, and cut off ``content``."""
        return self.reasoning or self.reasoning_content


class MetaInfo(BaseModel):
    """SGLang's account of an answer; each entry holds a token's log-probability, id and text."""

    output_token_logprobs: list[tuple[float | None, int, str | None]] | None = None


class Choice(BaseModel):
    message: ReplyMessage
    finish_reason: str | None = None
    stop_reason: int | str | None = Field(None, validation_alias=AliasChoices("stop_reason", "matched_stop"))
    token_ids: list[int] | None = None
    logprobs: ChoiceLogprobs | None = None
    meta_info: MetaInfo | None = None

    def model_post_init(self, context: object) -> None:
        if self.token_ids is None and self.meta_info is not None and self.meta_info.output_token_logprobs is not None:
            self.token_ids = [entry[1] for entry in self.meta_info.output_token_logprobs]

    @property
    def tokens(self) -> list[TokenLogprob]:
        """Log-probabilities token by token; empty where the server sent none."""
        return (self.logprobs.content if self.logprobs else None) or []

    @property
    def values(self) -> tuple[float, ...]:
        """Those of the generated tokens, in nats. Raises ``BadReplyError`` where one is no number."""
        return tuple(finite(token.logprob) for token in self.tokens)


class PromptTokensDetails(BaseModel):
    cached_tokens: int | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None

    @property
    def cached(self) -> int | None:
        """Prompt tokens that were not computed; None where the server does not say."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None


class PromptLogprob(BaseModel):
    logprob: float | None
    rank: int | None = None


class Reply(BaseModel):
    """A chat completion, with vLLM's additions and, under their names, SGLang's."""

    model: str = ""
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | None = Field(
        None, validation_alias=AliasChoices("prompt_token_ids", AliasPath("choices", 0, "prompt_token_ids"))
    )
    prompt_logprobs: list[dict[int, PromptLogprob] | None] | None = None

    @property
    def configuration(self) -> str | None:
        """vLLM's version and a digest of its configuration; None of other servers.

        Others' ``system_fingerprint`` may change from one reply to the next: OpenAI's tells which of its own answered.
        """
        fingerprint = self.system_fingerprint
        return fingerprint if fingerprint and fingerprint.startswith(_VLLM) else None

    @property
    def choice(self) -> Choice:
        return self.choices[0]

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated; 0 where the server does not say."""
        return (self.usage.completion_tokens if self.usage else None) or 0


def read_reply(content: bytes, *, logprobs: bool, token_ids: bool) -> Reply:
    """The chat completion in ``content``, which must have what was asked for. Raises ``BadReplyError``."""
    try:
        reply = Reply.model_validate_json(content)
    except ValidationError as error:
        raise not_a("chat completion", content, error) from None
    choice = reply.choice
    if logprobs and not choice.tokens and (choice.logprobs is None or choice.message.content):
        raise BadReplyError("no_logprobs", "the reply has no log-probabilities, although they were asked for")
    if token_ids and (choice.token_ids is None or reply.prompt_token_ids is None):
        raise BadReplyError("bad_reply", "the reply has no token ids, although they were asked for")
    _check_lengths(choice, reply.usage.completion_tokens if reply.usage else None)
    return reply


def not_a(what: str, content: bytes, error: ValidationError) -> BadReplyError:
    """The error of a reply that is not ``what`` was asked for."""
    return BadReplyError("bad_reply", f"the server did not send a {what} but {_came(content, error)}")


def _came(content: bytes, error: ValidationError) -> str:
    """What came in the place of a chat completion. It is not quoted: a proxy's page may show the request's key."""
    if content.lstrip().startswith(b"<"):
        return "a web page; is there a proxy, and is base_url right?"
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return f"broken JSON of {len(content)} bytes"
    return f"JSON whose {'.'.join(map(str, first['loc']))} is wrong ({first['msg']})"


def _check_lengths(choice: Choice, announced: int | None) -> None:
    sizes: Sequence[int | None] = (
        announced,
        len(choice.token_ids) if choice.token_ids is not None else None,
        len(choice.tokens) if choice.logprobs is not None and choice.token_ids is not None else None,
    )
    known = [size for size in sizes if size is not None]
    if len(set(known)) > 1:
        raise BadReplyError(
            "bad_reply",
            f"the reply is incomplete: {max(known)} tokens were announced and {min(known)} came",
        )
