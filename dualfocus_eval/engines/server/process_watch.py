"""Which answers may come from another process than the one that was looked at last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2

from dualfocus_eval.engines.base import RunEndedError

__all__ = ["ProcessWatch"]


class ProcessWatch:
    """Has one server verified again whenever another process may have taken its address.

    A connection leads to one process as long as it lasts. So an answer comes from a process that was verified if its
    connection was opened before that verification began. A reverse proxy keeps its connections while the server behind
    it is replaced; then requests fail meanwhile, so after a failure every connection counts as new.
    """

    def __init__(self) -> None:
        self._events = 0
        """Connections opened and failures so far."""
        self._opened: dict[Any, int] = {}
        """By the client's end of a connection, the number of the event that opened it."""
        self._failed = 0
        """Number of the latest failure."""
        self._verified = 0
        """Number of the latest event before a verification that succeeded."""
        self._verifying = asyncio.Lock()
        self._ended: RunEndedError | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpx2 tells of a request on its way (its extension ``trace``)."""
        if event == "connection.connect_tcp.complete":
            self._events += 1
            self._opened[info["return_value"].get_extra_info("client_addr")] = self._events

    def failed(self) -> None:
        """A request failed in a way that the end of the process may explain."""
        self._events += 1
        self._failed = self._events

    def event_of(self, response: httpx2.Response) -> int:
        """The event since which the process that has just sent ``response`` is the same."""
        opened = None
        with contextlib.suppress(KeyError, OSError):  # OSError: the connection is closed by now
            opened = self._opened.get(response.extensions["network_stream"].get_extra_info("client_addr"))
        return max(self._events if opened is None else opened, self._failed)

    async def settle(self, event: int, verify: Callable[[], Awaitable[None]]) -> None:
        """Return once a verification has succeeded that began after ``event``.

        Raises what ``verify`` raises; its ``RunEndedError`` for every later answer too.
        """
        if self._is_settled(event):
            return
        async with self._verifying:
            if self._is_settled(event):  # by the verification that this one has waited for
                return
            begin = self._events
            try:
                await verify()
            except RunEndedError as error:
                self._ended = error
                raise
            self._verified = begin

    def _is_settled(self, event: int) -> bool:
        if self._ended is not None:
            raise self._ended
        return event <= self._verified
