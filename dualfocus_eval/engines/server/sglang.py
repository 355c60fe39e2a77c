"""SGLang's own ways beside the OpenAI API: token ids of chat completions, and log-probabilities of given texts.

``/generate`` returns the log-probabilities of a prompt's tokens from a position on, and takes what lies before it from
the prefix cache. The prompt is sent as text: SGLang turns ids into text before it tokenises a prompt with images. The
formats are those of SGLang's documentation; no SGLang server was at hand to run this on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from dualfocus_eval.engines.base import Score
from dualfocus_eval.engines.server.replies import BadReplyError, PromptTokensDetails, Usage, finite, not_a

__all__ = ["FROM_POSITION", "TOKEN_IDS", "NativePrompt", "NativeReply", "NativeScorer", "read_native_reply"]

FROM_POSITION = "from_position"
"""The name of this way of scoring in traces."""
TOKEN_IDS = {"return_token_ids": True, "return_prompt_token_ids": True, "return_meta_info": True}
"""What makes chat completions hold the ids of prompt and answer; which of them has an effect depends on the version."""
_KEPT = 1024
"""Lengths of prompts that are remembered."""

TokenTriple = tuple[float | None, int, str | None]
"""Log-probability in nats, id, and text where that was asked for."""


class NativeMeta(BaseModel):
    prompt_tokens: int
    completion_tokens: int | None = None
    cached_tokens: int = 0
    input_token_logprobs: list[TokenTriple] | None = None
    input_top_logprobs: list[list[TokenTriple] | None] | None = None


class NativeReply(BaseModel):
    """What ``/generate`` returns."""

    meta_info: NativeMeta
    prompt_token_ids: list[int] | None = None

    @property
    def usage(self) -> Usage:
        """Its tokens as a chat completion counts them."""
        meta = self.meta_info
        details = PromptTokensDetails(cached_tokens=meta.cached_tokens)
        return Usage(
            prompt_tokens=meta.prompt_tokens, completion_tokens=meta.completion_tokens, prompt_tokens_details=details
        )


@dataclass(frozen=True)
class NativePrompt:
    """A conversation up to where the assistant goes on."""

    text: str
    """With what the template writes for an image in each image's place."""
    images: tuple[str, ...]
    """Their data URLs, in reading order."""
    key: tuple[str, ...]
    """Stands for the text and the images' pixels."""


Ask = Callable[[Mapping[str, Any]], Awaitable[NativeReply]]
"""Sends a request to ``/generate``; raises as the pool does."""
Check = Callable[[Sequence[int]], None]
"""Raises ``BadReplyError`` for ids of a prompt that are not those of the model's own template."""


def read_native_reply(content: bytes) -> NativeReply:
    """The reply in ``content``. Raises ``BadReplyError`` where it is none."""
    try:
        return NativeReply.model_validate_json(content)
    except ValidationError as error:
        raise not_a("reply of /generate", content, error) from None


@dataclass(eq=False)
class NativeScorer:
    """Scores texts; the length of a prompt is asked for once, which also brings the prompt into the prefix cache."""

    _lengths: OrderedDict[tuple[str, ...], asyncio.Future[int]] = field(default_factory=OrderedDict)

    async def score(
        self, ask: Ask, check: Check, prompt: NativePrompt, continuation: Sequence[int], text: str
    ) -> Score:
        """Log-probabilities of ``continuation``, whose tokens are written ``text``, after ``prompt``.

        Raises ``BadReplyError`` where the server tokenises the text otherwise, or sends less than was asked for.
        """
        length = await self._length(ask, check, prompt)
        reply = await ask(
            {
                **_request(prompt, text),
                "return_logprob": True,
                "logprob_start_len": length - 1,
                "top_logprobs_num": 1,
            }
        )
        found = _last(reply.meta_info.input_token_logprobs, len(continuation))
        best = _last(reply.meta_info.input_top_logprobs, len(continuation))
        if [token for _, token, _ in found] != list(continuation) or reply.meta_info.prompt_tokens != length + len(
            found
        ):
            raise BadReplyError(
                "retokenised", "the server tokenises the text to be scored otherwise than the model has generated it"
            )
        return Score(
            tuple(finite(value) for value, _, _ in found),
            tuple(_is_likeliest(entry, top) for entry, top in zip(found, best, strict=True)),
            FROM_POSITION,
        )

    async def _length(self, ask: Ask, check: Check, prompt: NativePrompt) -> int:
        known = self._lengths.get(prompt.key)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = asyncio.ensure_future(_measured(ask, check, prompt))
            self._lengths[prompt.key] = known
            if len(self._lengths) > _KEPT:
                self._lengths.popitem(last=False)
        self._lengths.move_to_end(prompt.key)
        return await asyncio.shield(known)


async def _measured(ask: Ask, check: Check, prompt: NativePrompt) -> int:
    """Tokens of ``prompt`` on the server, those of images included."""
    reply = await ask({**_request(prompt), "return_prompt_token_ids": True})
    if reply.prompt_token_ids is not None:
        check(reply.prompt_token_ids)
    return reply.meta_info.prompt_tokens


def _request(prompt: NativePrompt, continuation: str = "") -> dict[str, Any]:
    return {
        "text": prompt.text + continuation,
        "image_data": list(prompt.images),
        "sampling_params": {"temperature": 0, "max_new_tokens": 1},
    }


def _last(entries: Sequence[Any] | None, count: int) -> list[Any]:
    """The last ``count`` entries: those of the continuation, whose first one is not the first of the reply."""
    if entries is None or len(entries) <= count:
        raise BadReplyError("bad_reply", "the reply has no log-probabilities of the prompt, as were asked for")
    return list(entries[len(entries) - count :])


def _is_likeliest(entry: TokenTriple, best: Sequence[TokenTriple] | None) -> bool:
    return all(value is None or value <= finite(entry[0]) for value, _, _ in best or ())
