"""The engine in front of servers, behind ``engines.base.Engine``: requests of all calls are in flight together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.engines.server.answers import answer_of, completion_of
from dualfocus_eval.engines.server.messages import messages_of, pictures_of
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError, Reply, Usage
from dualfocus_eval.engines.server.scoring import score_all_at_once, score_by_token
from dualfocus_eval.engines.server.server import RequestFailedError, Server
from dualfocus_eval.engines.server.sglang import NativePrompt, NativeReply, read_native_reply
from dualfocus_eval.engines.server.shared import Shared
from dualfocus_eval.engines.template import RenderingError

__all__ = ["ServerCalls"]

R = TypeVar("R")

RETOKENISED = "retokenised"
"""A text that the server tokenises otherwise than the model has generated it."""
_IMAGE_TOKENS = 256
"""Of one image, where a rough number will do."""
_COST_OF_A_REQUEST = 64
"""Prompt tokens that a server computes in the time that a request of one token costs it beyond them."""


class ServerCalls(Engine):
    """One caller's view of the servers, with counters of its own."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        return self._counters

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Greedy completions in the order of the requests; see ``Engine.generate``."""
        return self._all(self._generate, requests)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """Log-probabilities of given continuations; see ``Engine.score``."""
        return self._all(self._score, requests)

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` as the answer to ``conversation``. Raises ``UserError`` without the tokenizer."""
        return self._tokens.template.answer_ids(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """(width, height) at which the vision encoder sees ``picture``, by the checkpoint's own processor."""
        family, processor = self._shared.family, self._tokens.template.processor
        return family.encoded_size(image_inputs(processor, picture.pixels), processor)

    @property
    def _tokens(self) -> PromptTokens:
        if self._shared.tokens is None:
            raise UserError("the model's tokenizer is not known: name its checkpoint with pretrained=")
        return self._shared.tokens

    @property
    def _tokenizer(self) -> Any:
        """None where the model's own is not known."""
        return self._shared.tokens.template.processor.tokenizer if self._shared.tokens else None

    def _all(self, run: Callable[[Any], Awaitable[R | Failure]], requests: Sequence[Any]) -> list[R | Failure]:
        async def together() -> list[R | Failure]:
            begin = time.perf_counter()
            found = list(await asyncio.gather(*(self._attempt(run, request) for request in requests)))
            for counters in self._all_counters:
                counters.seconds["server"] = counters.seconds.get("server", 0.0) + time.perf_counter() - begin
            return found

        return self._shared.run(together)

    async def _attempt(self, run: Callable[[Any], Awaitable[R | Failure]], request: Any) -> R | Failure:
        try:
            return await run(request)
        except (RequestFailedError, BadReplyError, RenderingError) as error:
            return Failure(error.kind, str(error))

    async def _generate(self, request: GenerateRequest) -> Completion | Failure:
        if request.max_new_tokens <= 0:
            return Completion("", (), (), "length")
        thinking = self._shared.thinking
        parameters: dict[str, Any] = {"max_tokens": request.most_tokens(thinks=thinking is not None)}
        stop = [text for text in request.stop if text]
        if stop and (thinking is None or request.answers_at_once):  # a thought must not end at them
            parameters["stop"] = stop
        if self._shared.abilities.logprobs:
            parameters["top_logprobs"] = 2
        segments = self._segments(request.conversation, answering=request.answers_at_once)
        reply = await self._ask(request.conversation, (), parameters, request.answers_at_once, segments)
        if thinking is None:
            found = completion_of(reply, request, self._tokenizer)
        else:
            found = answer_of(reply, request, thinking, segments[-1])
        if request.unmarked and isinstance(found, Completion):
            found = replace(found, text=self._shared.family.unmarked(found.text))
        if thinking is None:
            return found
        thought = found.thinking.tokens if isinstance(found, Completion) and found.thinking else 0
        self._count(thinking_tokens=thought if isinstance(found, Completion) else len(reply.choice.token_ids or ()))
        return found

    async def _score(self, request: ScoreRequest) -> Score | Failure:
        if not request.continuation:
            return Score((), ())
        if not self._shared.abilities.scores:
            return Failure("no_scores", "the server cannot score a given text")
        if self._shared.abilities.native_scores:
            return await self._score_natively(request)

        segments = self._segments(request.conversation, answering=True)

        async def ask(begun: Sequence[int], parameters: dict[str, Any]) -> Reply:
            return await self._ask(request.conversation, begun, parameters | {"max_tokens": 1}, True, segments)

        if self._is_long(request, segments):
            return await score_all_at_once(ask, request.continuation)
        try:
            return await score_by_token(ask, request.continuation)
        except BadReplyError as reply:
            # A beginning that ends in a space is tokenised otherwise than with the word that follows.
            if reply.kind != RETOKENISED or not self._shared.abilities.prompt_logprobs:
                raise
            return await score_all_at_once(ask, request.continuation)

    async def _score_natively(self, request: ScoreRequest) -> Score:
        shared, tokens, pictures = self._shared, self._tokens, pictures_of(request.conversation)
        urls = await shared.urls.of(request.conversation)
        text = tokens.text(request.conversation)
        digests = [picture.digest for picture in pictures]
        prompt = NativePrompt(text, tuple(urls[digest] for digest in digests), (text, *digests))

        async def send(body: Mapping[str, Any], server: Server) -> NativeReply:
            return read_native_reply(await server.post("/generate", body))

        async def ask(body: Mapping[str, Any]) -> NativeReply:
            reply = await shared.pool.ask(digests[0] if digests else "", partial(send, body))
            self._count(images_sent=len(digests))
            self._count_usage(reply.usage)
            return reply

        def check(prompt_ids: Sequence[int]) -> None:
            if not PromptTokens.agree(tokens.segments(request.conversation, answering=True), prompt_ids):
                shared.retokenised += 1
                raise BadReplyError(RETOKENISED, "the server tokenises the prompt otherwise than the model")

        written = tokens.template.decode_later(request.continuation)
        return await shared.native.score(ask, check, prompt, request.continuation, written)

    def _is_long(self, request: ScoreRequest, segments: Sequence[Sequence[int]]) -> bool:
        """Whether one request for the whole prompt is less work than one for each token of the continuation."""
        length = sum(map(len, segments))
        alone = len(request.continuation) * _COST_OF_A_REQUEST
        return self._shared.abilities.prompt_logprobs and alone > length + _IMAGE_TOKENS * len(
            pictures_of(request.conversation)
        )

    def _segments(self, conversation: Conversation, *, answering: bool) -> list[list[int]]:
        """`PromptTokens.segments`; empty where those are not known."""
        return self._shared.tokens.segments(conversation, answering=answering) if self._shared.tokens else []

    async def _ask(
        self,
        conversation: Conversation,
        begun: Sequence[int],
        parameters: Mapping[str, Any],
        answering: bool,
        segments: list[list[int]],
    ) -> Reply:
        """The reply to ``conversation`` with the answer ``begun``; its prompt is compared with the template's
        ``segments``."""
        shared = self._shared
        conversation = shared.tokens.sent(conversation) if shared.tokens else conversation
        text = self._tokens.template.begun_text(begun) if begun else ""
        urls = await shared.urls.of(conversation)
        way = shared.beginning(answering=answering, begun=bool(begun))
        more, turn = way.request(text)
        body = {"model": shared.model, "logprobs": shared.abilities.logprobs, **shared.sampling, **parameters}
        body |= shared.abilities.id_parameters | more
        if shared.image_options:
            body["mm_processor_kwargs"] = dict(shared.image_options)
        pictures = [picture.digest for picture in pictures_of(conversation)]
        demanded = {"logprobs": shared.abilities.logprobs, "token_ids": shared.abilities.token_ids}

        async def send(server: Server) -> Reply:
            named = shared.abilities.image_uuids
            known = server.known_images & set(pictures)
            messages = messages_of(conversation, urls, named=named, known=known, begun=turn)
            try:
                reply = await server.reply({**body, "messages": messages}, **demanded)
            except RequestFailedError as failure:
                if not (known and "Cache miss" in str(failure)):
                    raise
                server.known_images -= known
                messages = messages_of(conversation, urls, named=named, begun=turn)
                reply = await server.reply({**body, "messages": messages}, **demanded)
                known = set()
            if named:
                server.known_images.update(pictures)
            self._count(images_sent=len(pictures), images_named=sum(digest in known for digest in pictures))
            return reply

        reply = await shared.pool.ask(pictures[0] if pictures else "", send)
        shared.check(reply)
        self._count_usage(reply.usage or Usage())
        if segments and reply.prompt_token_ids and not PromptTokens.agree(segments, reply.prompt_token_ids, begun):
            shared.retokenised += 1
            if begun:
                raise BadReplyError(RETOKENISED, "the server tokenises the text to be scored otherwise than the model")
            if answering and shared.thinking:
                raise BadReplyError("thinking_not_closed", "the server's prompt leaves room for thinking")
        return reply

    def _count_usage(self, usage: Usage) -> None:
        cached = usage.cached or 0
        self._count(
            requests=1,
            tokens_prefilled=usage.prompt_tokens - cached,
            tokens_reused=cached,
            tokens_untold=usage.prompt_tokens if usage.cached is None else 0,
            decode_steps=usage.completion_tokens or 0,
        )

    def _count(self, **more: int) -> None:
        for counters in self._all_counters:
            for name, count in more.items():
                setattr(counters, name, getattr(counters, name) + count)

    @property
    def _all_counters(self) -> tuple[Counters, ...]:
        """Only the event loop's thread changes them."""
        return (self._counters, self._shared.total)
