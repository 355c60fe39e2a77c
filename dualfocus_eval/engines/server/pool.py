"""Several servers of one model: which of them is asked, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tenacity import RetryCallState

from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.retrying import error_of, retrying
from dualfocus_eval.engines.server.server import RequestFailedError, Server

__all__ = ["ServerPool"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OUT = 15.0
"""Seconds for which a server that does not answer is asked nothing."""
_OUTAGES = ("server_unreachable", "server_unavailable", "unknown_host", "timeout")
"""Kinds of failures that concern the server, not the request."""


class ServerPool:
    """Sends requests to ``servers``, at most ``concurrency`` at a time, and tries again what may pass.

    Once the tries of a request are used up and no server answers, each later request is tried once, until one answers;
    where servers hang, only now and then. So a run whose servers are gone ends soon, with the questions that are left
    failed.
    """

    def __init__(self, servers: Sequence[Server], config: ServerConfig) -> None:
        self.servers = tuple(servers)
        self.retried: Counter[str] = Counter()
        """Requests that were sent again, by what had failed."""
        self.taken_out: Counter[str] = Counter()
        """How often a server, by its address, did not answer and was left out for a while."""
        self._slots = asyncio.Semaphore(config.concurrency)
        self._config = config
        self._all_gone: RequestFailedError | None = None
        """The failure that used up the tries of a request when no server had answered since it began."""
        self._answers = 0

    async def ask(self, key: str, send: Callable[[Server], Awaitable[T]]) -> T:
        """What ``send`` gets from the server that answers for ``key``; raises what it raises at last."""
        async with self._slots:
            before = self._answers
            try:
                return await retrying(
                    self._config, before_pause=self._count, give_up=lambda: self._all_gone is not None
                )(self._try, key, send)
            except RequestFailedError as failure:
                if failure.kind in _OUTAGES and self._answers == before and self._all_gone is None:
                    self._all_gone = failure
                    logger.error("no server answers: %s; the questions that are left fail until one does", failure)
                raise

    async def _try(self, key: str, send: Callable[[Server], Awaitable[T]]) -> T:
        gone = self._all_gone
        if gone is not None and gone.kind == "timeout" and all(server.is_out for server in self.servers):
            raise gone  # another try would take as long again
        server = self._server(key)
        if server.out_until is not None:
            server.out_until = time.monotonic() + _OUT  # this request alone finds out whether it answers again
        try:
            found = await send(server)
        except RequestFailedError as failure:
            if failure.kind in _OUTAGES:
                self._take_out(server, failure)
            raise
        server.out_until = None
        self._all_gone = None
        self._answers += 1
        return found

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

    def _count(self, state: RetryCallState) -> None:
        self.retried[getattr(error_of(state), "kind", "unknown")] += 1


def _rank(key: str, address: str) -> bytes:
    return hashlib.blake2b(f"{key} {address}".encode(), digest_size=8).digest()
