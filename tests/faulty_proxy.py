"""A proxy that stands before a server, counts chat completion requests, and makes some of them fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

__all__ = ["BROKEN", "FAULTS", "PASSING", "FaultyProxy", "Plan", "every"]

_MIB = 1 << 20
COMPLETIONS = "/v1/chat/completions"

Answer = Callable[[], Awaitable[bytes]]
"""Asks the server."""
Fault = Callable[[web.Request, Answer], Awaitable[web.StreamResponse]]
Plan = Callable[[int], str | None]
"""From the number of a chat completion request, 0 being the first, to the name of the fault that it meets."""


def _status(status: int, headers: Mapping[str, str] | None = None) -> Fault:
    async def refuse(request: web.Request, answer: Answer) -> web.StreamResponse:
        return web.json_response({"error": {"message": "a fault"}}, status=status, headers=headers)

    return refuse


def _changed(change: Callable[[bytes], bytes], content_type: str = "application/json") -> Fault:
    async def reply(request: web.Request, answer: Answer) -> web.StreamResponse:
        return web.Response(body=change(await answer()), content_type=content_type)

    return reply


def _reworded(change: Callable[[dict[str, Any]], None]) -> Fault:
    """A fault of the reply's first choice."""

    def rewrite(content: bytes) -> bytes:
        reply = json.loads(content)
        change(reply["choices"][0])
        return json.dumps(reply).encode()

    return _changed(rewrite)


async def _cut(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Close the connection in the middle of the response."""
    content = await answer()
    response = web.StreamResponse(headers={"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    return _closed(request, response)


def _closed(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """``response``, which does not arrive any more."""
    if request.transport:
        request.transport.close()
    return response


async def _slow(request: web.Request, answer: Answer) -> web.StreamResponse:
    await asyncio.sleep(3)
    return web.Response(body=await answer(), content_type="application/json")


async def _never(request: web.Request, answer: Answer) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def _without_logprobs(choice: dict[str, Any]) -> None:
    choice["logprobs"] = None


def _fewer(choice: dict[str, Any]) -> None:
    choice["token_ids"].pop()
    choice["logprobs"]["content"].pop()


def _first_logprob(value: float | None) -> Callable[[dict[str, Any]], None]:
    def change(choice: dict[str, Any]) -> None:
        choice["logprobs"]["content"][0]["logprob"] = value

    return change


PASSING: Mapping[str, Fault] = {
    "429": _status(429),
    "429 and when to ask again": _status(429, {"Retry-After": "0"}),
    "500": _status(500),
    "503": _status(503),
    "cut connection": _cut,
    "cut JSON": _changed(lambda content: content[: len(content) // 2]),
    "web page": _changed(lambda content: b"<html><body>Bad gateway</body></html>", "text/html"),
    "fewer tokens": _reworded(_fewer),
}
"""What another try mends."""
BROKEN: Mapping[str, Fault] = {
    "no log-probabilities": _reworded(_without_logprobs),
    "NaN": _reworded(_first_logprob(float("nan"))),
    "null": _reworded(_first_logprob(None)),
    "floor": _reworded(_first_logprob(-9999.0)),
}
"""What it does not."""
FAULTS: Mapping[str, Fault] = {**PASSING, **BROKEN, "slow": _slow, "never": _never}


def every(name: str) -> Plan:
    """Every request meets the fault ``name``."""
    return lambda number: name


@dataclass(eq=False)
class FaultyProxy:
    """Stands before the server at ``target``; ``plan`` may be changed while it runs."""

    target: str
    plan: Plan = lambda number: None
    probes_fail: dict[int, str] = field(default_factory=dict)
    """Faults that probes and fingerprints are to meet, by their number; each is taken out once it was met."""
    probes: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    """How often a request came, by its content without the data of images."""
    failed: Counter[str] = field(default_factory=Counter)
    """How often it met a fault."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each fault came."""

    @property
    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * _MIB)
        app.cleanup_ctx.append(self._session)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _session(self, app: web.Application) -> Any:
        async with aiohttp.ClientSession() as session:
            self._client = session
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self._fault(body) if request.path == COMPLETIONS else None
        if fault is None:
            try:
                status, content = await self._ask(request, body)
            except aiohttp.ClientError:  # the server is gone: so is the proxy
                return _closed(request, web.Response())
            return web.Response(status=status, body=content, content_type="application/json")

        async def answer() -> bytes:
            return (await self._ask(request, body))[1]

        return await FAULTS[fault](request, answer)

    def _fault(self, body: bytes) -> str | None:
        """The fault that the request meets; counts both."""
        key = request_key(body)
        if not key:
            self.probes += 1
            return self.probes_fail.pop(self.probes - 1, None)
        fault = self.plan(self.asked.total()) or None
        self.asked[key] += 1
        if fault:
            self.failed[key] += 1
            self.faults[fault] += 1
        return fault

    async def _ask(self, request: web.Request, body: bytes) -> tuple[int, bytes]:
        headers = {name: value for name, value in request.headers.items() if name in ("Authorization", "Content-Type")}
        url = self.target + request.path_qs
        async with self._client.request(request.method, url, data=body or None, headers=headers) as response:
            return response.status, await response.read()


def request_key(body: bytes) -> str:
    """Digest of what a question asks, whether its images come with it or only by name; empty for a fingerprint."""
    content = json.loads(body)
    for message in content["messages"]:
        for part in message["content"]:
            if isinstance(part, dict) and "uuid" in part:
                part["image_url"] = None
    if "What is this?" in json.dumps(content):
        return ""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
