"""Several servers of one model: which of them is asked, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.replies import BadReplyError
from dualfocus_eval.engines.server.server import RequestFailedError, Server

__all__ = ["ServerPool"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OUT = 15.0
"""Seconds for which a server that does not answer is asked nothing."""
_LONGEST_WAIT = 30.0
"""Seconds between two tries of one request, if the server asks for no more."""


class ServerPool:
    """Sends requests to ``servers``, at most ``concurrency`` at a time, and tries again what may pass."""

    def __init__(self, servers: Sequence[Server], config: ServerConfig) -> None:
        self.servers = tuple(servers)
        self.retried: Counter[str] = Counter()
        """Requests that were sent again, by what had failed."""
        self.taken_out: Counter[str] = Counter()
        """How often a server, by its address, did not answer and was left out for a while."""
        self._slots = asyncio.Semaphore(config.concurrency)
        self._wait = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)
        self._attempts = config.retries + 1

    async def ask(self, key: str, send: Callable[[Server], Awaitable[T]]) -> T:
        """What ``send`` gets from the server that answers for ``key``; raises what it raises at last."""
        async with self._slots:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(self._attempts),
                wait=self._pause,
                retry=retry_if_exception(_may_pass),
                before_sleep=self._count,
                reraise=True,
            ):
                with attempt:
                    server = self._server(key)
                    try:
                        found = await send(server)
                    except RequestFailedError as failure:
                        if failure.kind in ("server_unreachable", "timeout"):
                            self._take_out(server, failure)
                        raise
                    server.out_until = None
                    return found
        raise AssertionError("tenacity returns or raises")

    def _server(self, key: str) -> Server:
        """The server with the highest hash of ``key`` and its address (rendezvous hashing), of those that answer.

        So questions about one image stay together, and only those of a server that is taken out go elsewhere.
        """
        answering = [server for server in self.servers if not server.is_out]
        return max(answering or self.servers, key=lambda server: _rank(key, server.address))

    def _take_out(self, server: Server, failure: RequestFailedError) -> None:
        server.known_images.clear()
        if server.is_out:
            return
        if len(self.servers) > 1:
            self.taken_out[server.address] += 1
            logger.warning("%s: %s; its questions go to the other servers", server.address, failure)
        server.out_until = time.monotonic() + _OUT

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, RequestFailedError) else None
        return asked if asked is not None else self._wait(state)

    def _count(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.retried[getattr(error, "kind", "unknown")] += 1


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, RequestFailedError):
        return error.passing
    return isinstance(error, BadReplyError) and error.kind == "bad_reply"


def _rank(key: str, address: str) -> bytes:
    return hashlib.blake2b(f"{key} {address}".encode(), digest_size=8).digest()
