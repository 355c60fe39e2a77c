"""One server: its connection, what it is known to hold, and whether it is still the one that was found at the start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from dualfocus_eval.common.errors import first_line
from dualfocus_eval.engines.server.config import ServerConfig

__all__ = ["RequestFailedError", "Server"]

_IDLE = 600.0
"""Seconds for which an unused connection is kept, if the server keeps it."""


class RequestFailedError(Exception):
    """A request that a server did not answer. ``kind`` as `Failure.kind`; ``passing`` where another try may help."""

    def __init__(self, kind: str, message: str, *, passing: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.passing, self.retry_after = kind, passing, retry_after


class Server:
    """A client of the server at ``address``.

    A new connection may lead to another process than the one before, so ``verify`` is awaited after each, before any
    answer that came since is used.
    """

    def __init__(self, address: str, config: ServerConfig) -> None:
        self.address = address
        self.known_images: set[str] = set()
        """Digests of images that it was sent; it may have dropped them since."""
        self.out_until: float | None = None
        """`time.monotonic` until which it is asked nothing; None while it answers."""
        self.verify: Callable[[], Awaitable[None]] | None = None
        self._connections = self._verified = 0
        self._verifying = asyncio.Lock()
        limits = httpx2.Limits(max_connections=config.concurrency + 2, keepalive_expiry=_IDLE)
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(config.timeout, connect=min(10.0, config.timeout)),
            limits=limits,
            event_hooks={"request": [self._watch]},
        )
        self._client = AsyncOpenAI(
            base_url=address, api_key=config.key or "none", http_client=self._http, max_retries=0
        )

    async def complete(self, body: Mapping[str, Any]) -> bytes:
        """The reply to a chat completion request. Raises ``RequestFailedError``, and what ``verify`` raises."""
        return await self._post("/chat/completions", body)

    async def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The reply to another POST request; ``path`` from the server's root on."""
        root = self.address.rpartition("/v1")[0] or self.address
        return await self._post(root + path, body)

    async def _post(self, place: str, body: Mapping[str, Any]) -> bytes:
        return await self._asked(lambda: self._client.post(place, cast_to=httpx2.Response, body=dict(body)))

    async def get(self, path: str, *, root: bool = False) -> bytes:
        """The reply to a GET request below the address, or below the server's root. It is never verified."""
        place = (self.address.rpartition("/v1")[0] if root else self.address) + path
        return await _read(lambda: self._client.get(place, cast_to=httpx2.Response))

    async def _asked(self, send: Callable[[], Awaitable[httpx2.Response]]) -> bytes:
        content = await _read(send)
        if self.verify is not None and self._verified != self._connections:
            await self._verify_now()
        return content

    async def _verify_now(self) -> None:
        async with self._verifying:
            while self._verified != self._connections:
                seen, verify = self._connections, self.verify
                if verify is not None:
                    self.verify = None  # its own requests are not verified
                    try:
                        await verify()
                    finally:
                        self.verify = verify
                self._verified = max(seen, self._verified)

    async def _watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._note

    async def _note(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._connections += 1

    async def close(self) -> None:
        await self._client.close()

    @property
    def is_out(self) -> bool:
        return self.out_until is not None and time.monotonic() < self.out_until


async def _read(send: Callable[[], Awaitable[httpx2.Response]]) -> bytes:
    try:
        return (await send()).content
    except APITimeoutError as error:
        raise RequestFailedError("timeout", "the server did not answer in time; raise timeout", passing=True) from error
    except APIConnectionError as error:
        reason = first_line(error.__cause__ or error)
        raise RequestFailedError("server_unreachable", f"no answer from the server: {reason}", passing=True) from error
    except APIStatusError as error:
        raise _refused(error) from error


def _refused(error: APIStatusError) -> RequestFailedError:
    status, reason = error.status_code, _reason(error)
    passing = False
    if status == 429:
        kind, message, passing = "rate_limited", f"too many requests: {reason}", True
    elif status in (401, 403):
        kind, message = "key_refused", f"the server refuses the key ({status}); see api_key"
    elif status == 404:
        kind, message = "not_found", f"the server does not know the model or the address: {reason}"
    elif status >= 500 or status in (408, 409, 425):
        kind, message, passing = "server_error", f"the server failed ({status}): {reason}", True
    elif "context length" in reason or "maximum model length" in reason:
        kind, message = "too_long", reason
    else:
        kind, message = "bad_request", f"the server refuses the request ({status}): {reason}"
    return RequestFailedError(kind, message, passing=passing, retry_after=_wait(error))


def _reason(error: APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        nested = body.get("error", body)
        message = nested.get("message") if isinstance(nested, dict) else nested
        if message:
            return " ".join(str(message).split())[:200]
    return first_line(error)[:200]


def _wait(error: APIStatusError) -> float | None:
    """Seconds that the server asks to wait."""
    try:
        return max(0.0, float(error.response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
