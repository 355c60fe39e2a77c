"""From a server's replies to completions and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.engines.base import Completion, Failure, FinishReason, GenerateRequest, Thinking
from dualfocus_eval.engines.server.replies import BadReplyError, Choice, Reply
from dualfocus_eval.engines.thinking import ThinkingFormat

__all__ = ["answer_of", "completion_of", "most_tokens"]


def most_tokens(request: GenerateRequest, *, thinks: bool) -> int:
    """How many tokens an answer may take, those of thinking included."""
    return request.max_new_tokens + (request.max_thinking_tokens if thinks else 0)


@dataclass(frozen=True)
class _Generated:
    """What a reply holds, token by token."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    gaps: tuple[float, ...]


def completion_of(reply: Reply, request: GenerateRequest) -> Completion | Failure:
    """The answer of a model whose own marks of thinking are not known. Raises ``BadReplyError``.

    A server that knows them cuts the thinking off the text, but not off the log-probabilities.
    """
    choice = reply.choice
    finish, text, told = _finish(choice), choice.message.content or "", choice.message.thought
    if not told:
        ids = tuple(choice.token_ids or ())
        return Completion(text, ids, choice.values, finish, _smallest(_gaps(choice)))
    if not text and finish == "length":
        return _unanswered(choice, finish)
    if choice.tokens:
        return Failure(
            "thinking_not_split",
            "the server cuts off what the model thought; to tell the answer's log-probabilities from those of the "
            "thinking takes the tokenizer: name the model's checkpoint with pretrained=",
        )
    return Completion(text.lstrip(), (), (), finish, None, Thinking(told, 0))


def answer_of(reply: Reply, request: GenerateRequest, thinking: ThinkingFormat) -> Completion | Failure:
    """The answer of a model that may think before, without what it thought. Raises ``BadReplyError``.

    What the server makes of the thinking itself does not count where it returns the token ids, which hold all.
    """
    choice = reply.choice
    if choice.token_ids is None or reply.prompt_token_ids is None:
        return completion_of(_split(reply, thinking), request)
    generated = _Generated(tuple(choice.token_ids), choice.values, _gaps(choice))
    finish = _finish(choice)
    begin = thinking.answer_begin(reply.prompt_token_ids, generated.ids)
    if begin is None or begin > request.max_thinking_tokens:
        return _unanswered(choice, finish if begin is None else "length")
    end, finish = _answer_end(generated.ids, begin, request, thinking, finish)
    answer = generated.ids[begin:end]
    return Completion(
        _text(answer, request.stop, thinking),
        answer,
        generated.logprobs[begin:end],
        finish,
        _smallest(generated.gaps[begin:end]),
        thinking.thinking(generated.ids[:begin]) if begin else None,
    )


def _unanswered(choice: Choice, finish: FinishReason) -> Failure:
    count = f"{len(choice.token_ids)} tokens" if choice.token_ids else "all tokens"
    if finish == "eos":
        return Failure("thinking_unfinished", f"the model ended its turn after {count} of thinking")
    return Failure("thinking_budget", f"{count} of thinking and no answer; raise max_thinking_tokens")


def _answer_end(
    ids: Sequence[int], begin: int, request: GenerateRequest, thinking: ThinkingFormat, finish: FinishReason
) -> tuple[int, FinishReason]:
    """Where the answer ends that begins at ``begin``, and why: stop texts and the limit concern the answer."""
    marked = thinking.answer_end is not None and thinking.markers.answer_opening in thinking.text(ids[:begin])
    for end in range(begin + 1, min(len(ids), begin + request.max_new_tokens) + 1):
        if marked and ids[end - 1] == thinking.answer_end:
            return end, "eos"
        if request.stop and _first_stop(_decoded(ids[begin:end], thinking), request.stop) is not None:
            return end, "stop"
    end = min(len(ids), begin + request.max_new_tokens)
    return end, finish if end == len(ids) else "length"


def _text(ids: Sequence[int], stop: Sequence[str], thinking: ThinkingFormat) -> str:
    text = _decoded(ids, thinking)
    return text[: _first_stop(text, stop)].lstrip()


def _decoded(ids: Sequence[int], thinking: ThinkingFormat) -> str:
    text = str(thinking.tokenizer.decode(list(ids), skip_special_tokens=True))
    return text.removesuffix(thinking.markers.answer_closing) if thinking.answer_end is not None else text


def _first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop text begins."""
    return min((place for one in stop if (place := text.find(one)) >= 0), default=None)


def _split(reply: Reply, thinking: ThinkingFormat) -> Reply:
    """``reply``, of a server that returns no token ids, with its thinking cut off the text by the markers."""
    message = reply.choice.message
    before, closing, after = (message.content or "").rpartition(thinking.markers.closing)
    if message.thought or not closing:
        return reply
    told = before.strip().removeprefix(thinking.markers.opening).strip()
    split = message.model_copy(update={"content": after, "reasoning": told})
    choice = reply.choice.model_copy(update={"message": split})
    return reply.model_copy(update={"choices": [choice]})


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
