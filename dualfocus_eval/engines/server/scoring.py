"""Log-probabilities of given texts from a vLLM server, one of two ways.

One token at a time, generation may choose nothing but the wanted token (``allowed_token_ids``): the server returns the
model's own log-probability of it, and takes all that comes before from its prefix cache. Or all at once, as a part of
the prompt (``prompt_logprobs``), for which vLLM computes the whole prompt anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dualfocus_eval.engines.base import Failure, Score
from dualfocus_eval.engines.server.replies import BadReplyError, Reply, TokenLogprob, finite

__all__ = ["BY_TOKEN", "PROMPT", "score_all_at_once", "score_by_token"]

BY_TOKEN, PROMPT = "by_token", "prompt"
"""The names of the two ways in traces."""

Ask = Callable[[Sequence[int], dict[str, Any]], Awaitable[Reply]]
"""Sends the conversation with the first tokens of the answer, and further parameters; raises as the pool does."""


async def score_by_token(ask: Ask, continuation: Sequence[int]) -> Score | Failure:
    """One request per token, all at the same time."""
    parameters = [{"allowed_token_ids": [token], "top_logprobs": 2} for token in continuation]
    replies = await asyncio.gather(
        *(ask(continuation[:number], parameter) for number, parameter in enumerate(parameters))
    )
    found = [_forced(reply, token) for reply, token in zip(replies, continuation, strict=True)]
    return Score(tuple(value for value, _ in found), tuple(greedy for _, greedy in found), BY_TOKEN)


def _forced(reply: Reply, token: int) -> tuple[float, bool]:
    """The log-probability of the one token that ``reply`` may consist of, and whether it is the likeliest of all."""
    choice = reply.choice
    (value,) = choice.values or (None,)
    if value is None or choice.token_ids != [token]:
        raise BadReplyError("bad_reply", f"the server was to generate token {token} and generated {choice.token_ids}")
    return value, _is_likeliest(choice.tokens[0])


def _is_likeliest(token: TokenLogprob) -> bool:
    return all(
        top.logprob is None or token.logprob is None or top.logprob <= token.logprob for top in token.top_logprobs
    )


async def score_all_at_once(ask: Ask, continuation: Sequence[int]) -> Score | Failure:
    """One request: all tokens but the last as the prompt's end, the last one generated."""
    *begun, last = continuation
    reply = await ask(begun, {"allowed_token_ids": [last], "top_logprobs": 2, "prompt_logprobs": 1})
    if reply.prompt_logprobs is None or len(reply.prompt_logprobs) <= len(begun):
        raise BadReplyError("bad_reply", "the reply has no log-probabilities of the prompt, as were asked for")
    entries = reply.prompt_logprobs[len(reply.prompt_logprobs) - len(begun) :]
    found = [*map(_given, entries, begun), _forced(reply, last)]
    return Score(tuple(value for value, _ in found), tuple(greedy for _, greedy in found), PROMPT)


def _given(entry: Any, token: int) -> tuple[float, bool]:
    found = (entry or {}).get(token)
    return finite(found.logprob if found else None), found is not None and found.rank == 1
