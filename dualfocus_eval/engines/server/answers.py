"""From a server's replies to completions and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.engines.base import Completion, Failure, FinishReason, GenerateRequest, Thinking
from dualfocus_eval.engines.server.replies import BadReplyError, Choice, Reply
from dualfocus_eval.engines.thinking import ThinkingFormat

__all__ = ["completion_of", "most_tokens"]


def most_tokens(request: GenerateRequest, *, thinks: bool) -> int:
    """How many tokens an answer may take, those of thinking included."""
    return request.max_new_tokens + (request.max_thinking_tokens if thinks else 0)


@dataclass(frozen=True)
class _Generated:
    """What a reply holds, token by token."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    gaps: tuple[float, ...]


def completion_of(reply: Reply, request: GenerateRequest, thinking: ThinkingFormat | None) -> Completion | Failure:
    """The answer in ``reply``; with ``thinking``, without what came before it. Raises ``BadReplyError``."""
    choice = reply.choice
    generated = _Generated(tuple(choice.token_ids or ()), choice.values, _gaps(choice))
    finish = _finish(choice)
    text = choice.message.content or ""
    if thinking is None or choice.token_ids is None or reply.prompt_token_ids is None:
        return Completion(text, generated.ids, generated.logprobs, finish, _smallest(generated.gaps), _told(reply))
    begin = thinking.answer_begin(reply.prompt_token_ids, generated.ids)
    if begin is None or begin > request.max_thinking_tokens:
        if finish == "eos" and begin is None:
            return Failure(
                "thinking_unfinished", f"the model ended its turn after {len(generated.ids)} tokens of thinking"
            )
        return Failure(
            "thinking_budget", f"{len(generated.ids)} tokens of thinking and no answer; raise max_thinking_tokens"
        )
    end = begin + request.max_new_tokens
    if end < len(generated.ids):
        finish = "length"
    return Completion(
        thinking.tokenizer.decode(list(generated.ids[begin:end]), skip_special_tokens=True).lstrip(),
        generated.ids[begin:end],
        generated.logprobs[begin:end],
        finish,
        _smallest(generated.gaps[begin:end]),
        thinking.thinking(generated.ids[:begin]) if begin else None,
    )


def _told(reply: Reply) -> Thinking | None:
    """The thinking that the server has cut off itself."""
    text = reply.choice.message.reasoning or reply.choice.message.reasoning_content
    return Thinking(text, 0) if text else None


def _finish(choice: Choice) -> FinishReason:
    if choice.finish_reason == "length":
        return "length"
    if choice.finish_reason != "stop":
        raise BadReplyError("bad_reply", f"the answer ended for an unknown reason: {choice.finish_reason!r:.40}")
    return "stop" if isinstance(choice.stop_reason, str) else "eos"


def _gaps(choice: Choice) -> tuple[float, ...]:
    """Of every generated token, how far its log-probability is above the next one's; empty where that is not known."""
    found = []
    for token in choice.tokens:
        values = sorted((top.logprob for top in token.top_logprobs if top.logprob is not None), reverse=True)
        if len(values) < 2:
            return ()
        found.append(values[0] - values[1])
    return tuple(found)


def _smallest(gaps: Sequence[float]) -> float | None:
    return min(gaps, default=None)
