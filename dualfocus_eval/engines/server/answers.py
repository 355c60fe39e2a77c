"""From a server's replies to completions and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dualfocus_eval.engines.base import Completion, Failure, FinishReason, GenerateRequest, Thinking
from dualfocus_eval.engines.server.replies import BadReplyError, Choice, Reply
from dualfocus_eval.engines.thinking import ThinkingFormat, unanswered

__all__ = ["answer_of", "completion_of"]


@dataclass(frozen=True)
class _Generated:
    """What a reply holds, token by token."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    gaps: tuple[float, ...]


def completion_of(reply: Reply, request: GenerateRequest, tokenizer: Any = None) -> Completion | Failure:
    """The answer of a model whose own marks of thinking are not known. Raises ``BadReplyError``.

    The text is by the ``tokenizer`` where that and the token ids are at hand: a server writes it as it stands after the
    prompt, with the space that SentencePiece's first word has there. A server that knows marks of thinking cuts the
    thinking off the text, but not off the log-probabilities.
    """
    choice = reply.choice
    finish, text, told = _finish(choice), choice.message.content or "", choice.message.thought
    if not told:
        ids = tuple(choice.token_ids or ())
        shown = text if tokenizer is None or choice.token_ids is None else _written(ids, request, tokenizer)
        return Completion(shown, ids, choice.values, finish, _smallest(_gaps(choice)))
    if not text and finish == "length":
        return unanswered("thinking_budget", len(choice.tokens) or reply.completion_tokens)
    if choice.tokens:
        return Failure(
            "thinking_not_split",
            "the server cuts off what the model thought; to tell the answer's log-probabilities from those of the "
            "thinking takes the tokenizer: name the model's checkpoint with pretrained=",
        )
    return Completion(text.lstrip(), (), (), finish, None, Thinking(told, 0))


def answer_of(
    reply: Reply, request: GenerateRequest, thinking: ThinkingFormat, prompt_ids: Sequence[int]
) -> Completion | Failure:
    """The answer of a model that may think before, without what it thought. Raises ``BadReplyError``.

    What the server makes of the thinking itself does not count where it returns the token ids, which hold all.
    ``prompt_ids`` are the last of the prompt as the template at hand writes it, for servers that do not return them.
    """
    choice = reply.choice
    if choice.token_ids is None or reply.prompt_token_ids is None:
        split = _split(reply, thinking, thinking.reader(prompt_ids).inside)
        return split if isinstance(split, Failure) else completion_of(split, request)
    generated = _Generated(tuple(choice.token_ids), choice.values, _gaps(choice))
    part = _answer_part(reply.prompt_token_ids, generated.ids, request, thinking, _finish(choice))
    if isinstance(part, Failure):
        return part
    begin, end = part.begin, part.end
    text = _written(generated.ids[begin : end - part.closed], request, thinking.tokenizer)
    return Completion(
        text.lstrip() if begin else text,
        generated.ids[begin:end],
        generated.logprobs[begin:end],
        part.finish,
        _smallest(generated.gaps[begin:end]),
        thinking.thinking(generated.ids[:begin]) if begin else None,
    )


@dataclass(frozen=True)
class _Part:
    """Where among the generated tokens the answer is, and why it ends there."""

    begin: int
    end: int
    finish: FinishReason
    closed: bool = False
    """Whether its last token is the mark that closes it."""


def _answer_part(
    prompt_ids: Sequence[int],
    ids: tuple[int, ...],
    request: GenerateRequest,
    thinking: ThinkingFormat,
    finish: FinishReason,
) -> _Part | Failure:
    """The answer among ``ids``, by the rules of the engine in process (`engines.choosing`): limits and stop texts are
    those of the answer, which the server does not know."""
    reader = thinking.reader(prompt_ids)
    begin: int | None = None
    for length in range(1, len(ids) + 1):
        reader.read(ids[:length])
        begin = reader.before(length)
        ends = finish == "eos" and length == len(ids)
        if begin is None:
            if ends or length >= request.max_thinking_tokens:
                return unanswered("thinking_unfinished" if ends else "thinking_budget", length)
        elif ends or reader.closed_by(ids[length - 1]):
            return _Part(begin, length, "eos", closed=not ends)
        elif reader.begin is not None and _is_stopped(ids[begin:length], request, thinking):
            return _Part(begin, length, "stop")
        elif reader.after_thinking(length) >= request.max_new_tokens:
            return _Part(begin, length, "length")
    return unanswered("thinking_budget", len(ids)) if begin is None else _Part(begin, len(ids), finish)


def _is_stopped(ids: Sequence[int], request: GenerateRequest, thinking: ThinkingFormat) -> bool:
    return bool(request.stop) and request.stopped_at(_decoded(ids, thinking.tokenizer)) is not None


def _written(ids: Sequence[int], request: GenerateRequest, tokenizer: Any) -> str:
    text = _decoded(ids, tokenizer)
    return text[: request.stopped_at(text)]


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _split(reply: Reply, thinking: ThinkingFormat, inside: bool) -> Reply | Failure:
    """``reply``, of a server that returns no token ids, with its thinking cut off the text by the markers.

    With ``inside`` the prompt has opened a block. One that does not end has no answer.
    """
    message, markers = reply.choice.message, thinking.markers
    text = message.content or ""
    before, closing, after = text.rpartition(markers.closing)
    if message.thought:
        return reply
    if not closing:
        if not inside and not text.lstrip().startswith(markers.opening):
            return reply
        kind = "thinking_budget" if _finish(reply.choice) == "length" else "thinking_unfinished"
        return unanswered(kind, reply.completion_tokens)
    told = before.strip().removeprefix(markers.opening).strip()
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
        values = token.likeliest
        if len(values) < 2:
            return ()
        found.append(values[0] - values[1])
    return tuple(found)


def _smallest(gaps: Sequence[float]) -> float | None:
    return min(gaps, default=None)
