"""The way to a server: the HTTP client, and the proxy that the environment puts between."""

from __future__ import annotations

import urllib.request
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx2

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.engines.server.config import ServerConfig

__all__ = ["http_client", "proxy_note"]

_CONNECTING = 10.0
"""Seconds for a connection to be opened."""
_IDLE = 4.0
"""Seconds for which an unused connection is kept: less than uvicorn, which vLLM and SGLang run in, waits (5) before it
closes one. A request that meets the closing would fail."""


def http_client(config: ServerConfig, before: Callable[[httpx2.Request], Awaitable[None]]) -> httpx2.AsyncClient:
    """A client that awaits ``before`` with every request.

    Raises ``UserError`` where the proxies or certificates that the environment names cannot be used.
    """
    try:
        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(config.timeout, connect=min(_CONNECTING, config.timeout)),
            limits=httpx2.Limits(max_connections=config.concurrency + 2, keepalive_expiry=_IDLE),
            event_hooks={"request": [before]},
        )
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        raise UserError(
            f"no connection can be made with the environment's proxies and certificates: {first_line(error)}; correct "
            "or unset http_proxy, https_proxy, all_proxy, SSL_CERT_FILE"
        ) from error


def proxy_note(address: str) -> str:
    """Words on the proxy that requests to ``address`` go through; empty where there is none."""
    parts = urlsplit(address)
    proxies = urllib.request.getproxies()
    name = next((name for name in (parts.scheme, "all") if name in proxies), None)
    if name is None or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" (through the proxy in {name}_proxy; name {parts.hostname} in no_proxy to go without)"
