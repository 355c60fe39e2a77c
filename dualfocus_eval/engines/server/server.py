"""One server: its connection, what it is known to hold, and whether it is still the one that was found at the start."""

from __future__ import annotations

import email.utils
import math
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx2
from openai import APIStatusError, APITimeoutError, AsyncOpenAI, OpenAIError

from dualfocus_eval.common.errors import first_line
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.process_watch import ProcessWatch
from dualfocus_eval.engines.server.replies import BadReplyError, Reply, read_reply
from dualfocus_eval.engines.server.route import http_client

__all__ = ["RequestFailedError", "Server"]

_PAGE = "a web page in the place of a reply"
_LOOK = 30.0
"""Seconds after which a GET request has failed: what these ask for, a server has at hand."""

_LONGEST = 200
"""Characters of a server's own words in a message."""


class RequestFailedError(Exception):
    """A request that a server did not answer. ``kind`` as `Failure.kind`; ``passing`` where another try may help."""

    def __init__(self, kind: str, message: str, *, passing: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.passing, self.retry_after = kind, passing, retry_after


class Server:
    """A client of the server at ``address``.

    Another process may take the address in mid-run, so ``verify`` is awaited whenever that is possible, before an
    answer is used; see `ProcessWatch`.
    """

    def __init__(self, address: str, config: ServerConfig) -> None:
        self.address = address
        self.known_images: set[str] = set()
        """Digests of images that it was sent; it may have dropped them since."""
        self.out_until: float | None = None
        """`time.monotonic` until which it is asked nothing; None while it answers."""
        self.verify: Callable[[], Awaitable[None]] | None = None
        """Raises ``RunEndedError`` where the server has become another one."""
        self._watch = ProcessWatch()
        self._key = config.key
        self._look = min(_LOOK, config.timeout)
        self._client = AsyncOpenAI(
            base_url=address,
            api_key=self._key or "none",
            http_client=http_client(config, self._trace),
            max_retries=0,
        )

    async def reply(self, body: Mapping[str, Any], *, logprobs: bool, token_ids: bool, verified: bool = True) -> Reply:
        """The reply to a chat completion request, which must have what the flags say.

        Raises ``RequestFailedError``, ``BadReplyError`` and, unless ``verified`` is False, what ``verify`` raises.
        """
        response = await self._post("/chat/completions", body)
        try:
            reply = read_reply(response.content, logprobs=logprobs, token_ids=token_ids)
        except BadReplyError:
            self._watch.failed()
            raise
        if verified:
            await self._settle(response)
        return reply

    async def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The reply to another POST request; ``path`` from the server's root on. Raises as `reply` does."""
        response = await self._post(self._root + path, body)
        await self._settle(response)
        return response.content

    async def get(self, path: str, *, root: bool = False) -> bytes:
        """The reply to a GET request below the address, or below the server's root. It is never verified."""
        place = (self._root if root else self.address) + path
        look = self._client.get(place, cast_to=httpx2.Response, options={"timeout": self._look})
        return (await self._answered(look)).content

    async def _settle(self, response: httpx2.Response) -> None:
        if self.verify is not None:
            await self._watch.settle(self._watch.event_of(response), self.verify)

    @property
    def _root(self) -> str:
        return self.address.rpartition("/v1")[0] or self.address

    async def _post(self, place: str, body: Mapping[str, Any]) -> httpx2.Response:
        return await self._answered(self._client.post(place, cast_to=httpx2.Response, body=dict(body)))

    async def _answered(self, answer: Awaitable[httpx2.Response]) -> httpx2.Response:
        try:
            return await answer
        except OpenAIError as error:
            failure = _failure(error, self._key)
            if failure.passing and failure.kind != "rate_limited":
                self._watch.failed()
            raise failure from error

    async def _trace(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._watch.trace

    async def close(self) -> None:
        await self._client.close()

    @property
    def is_out(self) -> bool:
        return self.out_until is not None and time.monotonic() < self.out_until


def _failure(error: OpenAIError, key: str | None) -> RequestFailedError:
    """What ``error`` means for a run; no message shows ``key``, which servers may write into theirs."""
    if isinstance(error, APIStatusError):
        return _refused(error, _shortened(_without(key, _reason(error))))
    if isinstance(error, APITimeoutError):
        return RequestFailedError("timeout", "the server did not answer in time; raise timeout", passing=True)
    cause = error.__cause__ or error
    reason = _shortened(_without(key, first_line(cause)))
    causes = list(_causes(cause))
    if any(isinstance(one, socket.gaierror) and one.errno in _NO_HOST for one in causes):
        return RequestFailedError("unknown_host", f"there is no such host ({reason})", passing=True)
    if any(isinstance(one, ssl.SSLError) and not isinstance(one, _CUT) for one in causes):
        hint = "is it http:// and not https://? SSL_CERT_FILE names certificates to trust"
        return RequestFailedError("insecure", f"no secure connection: {reason}; {hint}", passing=False)
    return RequestFailedError("server_unreachable", f"no answer from the server: {reason}", passing=True)


_NO_HOST = (socket.EAI_NONAME, socket.EAI_NODATA)
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""A secure connection that ended, as one without TLS may."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refused(error: APIStatusError, reason: str) -> RequestFailedError:
    status = error.status_code
    passing = False
    if status == 429:
        kind, message, passing = "rate_limited", f"too many requests: {reason}", True
    elif status in (401, 403):
        page = " with a web page: is there a proxy? Else" if reason == _PAGE else ";"
        kind, message = "key_refused", f"the server refuses the key ({status}){page} see api_key"
    elif status == 404:
        kind, message = "not_found", f"the server does not know the model or the address: {reason}"
    elif status in (502, 503, 504):
        kind, message, passing = "server_unavailable", f"the server is not available ({status}): {reason}", True
    elif status >= 500 or status in (408, 409, 425):
        kind, message, passing = "server_error", f"the server failed ({status}): {reason}", True
    elif "context length" in reason or "maximum model length" in reason:
        kind, message = "too_long", reason
    else:
        kind, message = "bad_request", f"the server refuses the request ({status}): {reason}"
    return RequestFailedError(kind, message, passing=passing, retry_after=_wait(error))


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "***") if key else text


def _shortened(text: str) -> str:
    """Only what is free of the key: a part of it would be cut off with the rest, and not be found."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _reason(error: APIStatusError) -> str:
    """What the server says, in one line."""
    body = error.body
    nested = body.get("error", body) if isinstance(body, dict) else None
    message = nested.get("message") if isinstance(nested, dict) else nested
    found = str(message) if message else error.response.text
    if found.lstrip().startswith("<"):
        return _PAGE
    return " ".join(found.split()) or "no reason given"


def _wait(error: APIStatusError) -> float | None:
    """Seconds that the server asks to wait."""
    told = error.response.headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
