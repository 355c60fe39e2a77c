"""What a user decides about the engine in front of servers. Imports nothing heavy."""

from __future__ import annotations

import os
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.validation import CLOSED

__all__ = ["DEFAULT_KEY", "ServerConfig"]

DEFAULT_KEY = "OPENAI_API_KEY"


def _addresses(value: object) -> object:
    """Several addresses in one text, which lmms-eval's parser leaves in its quotes."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.strip("'\"[] ").split(",") if part.strip())


def _with_version(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses that end in their version, ``/v1`` where they have no path; refuses what is no address."""
    if not addresses:
        raise ValueError("base_url is empty: give the server's address, e.g. http://localhost:8000")
    found = []
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _is_place(parts):
            raise ValueError(f"{address!r} is not an address; write it as http://localhost:8000")
        if parts.username or parts.password:
            raise ValueError("an address must not hold a password; use api_key")
        if parts.query or parts.fragment:
            raise ValueError("an address must end with its path: leave out what begins with ? or #")
        path = parts.path.rstrip("/") or "/v1"
        found.append(f"{parts.scheme}://{parts.netloc}{path}")
    if len(set(found)) < len(found):
        raise ValueError("the same address is given twice")
    return tuple(found)


def _is_place(parts: SplitResult) -> bool:
    """Whether host and port can be ones."""
    try:
        return parts.port != 0 and not any(letter.isspace() for letter in parts.netloc)
    except ValueError:  # a port that is no number, or above 65535
        return False


def _known_variable(name: str | None) -> str | None:
    # The value is not shown: somebody may have written the key itself.
    if name is not None and not os.environ.get(name):
        raise ValueError(
            "it is the name of an environment variable that holds the key, and none of the given name is set; a key "
            "itself would be written into logs and results"
        )
    return name


Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses), AfterValidator(_with_version)]
Variable = Annotated[str | None, AfterValidator(_known_variable)]


@dataclass(frozen=True, config=CLOSED)
class ServerConfig:
    """Which servers answer, and what is asked of them.

    Raises pydantic's ``ValidationError`` (a ValueError) for wrong values; no server is asked to find out.
    """

    base_url: Addresses
    """Addresses of servers of the same model, separated by commas: ``base_url="http://one:8000,http://two:8000"``."""
    model: str | None = None
    """The name under which the servers serve it; not needed where they serve one model."""
    pretrained: str | None = None
    """Where its processor and tokenizer are found: a checkpoint folder or a hub id; no weights are loaded. By default
    what the server says it serves."""
    revision: str | None = None
    """A branch, tag or commit of the hub repository."""
    trust_remote_code: bool = False
    """Run the checkpoint's own Python code."""
    min_pixels: int | None = None
    """Smallest area to which the server resizes an image; only for vLLM and families that have such a limit (Qwen-VL).
    vLLM must run with ``--trust-request-mm-kwargs``, or with the same limits in ``--mm-processor-kwargs``."""
    max_pixels: int | None = None
    """Largest area, likewise."""
    api_key: Variable = None
    """Name of the environment variable that holds the key; by default ``OPENAI_API_KEY``, if that is set."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    """Requests in flight at the same time, over all servers."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a request has failed, and for which a server that is still loading is waited for."""
    retries: Annotated[int, Field(ge=0)] = 6
    """How often a request is tried again after a failure that may pass, with growing waits in between."""

    @property
    def described(self) -> str:
        """What runs, in a few words."""
        return f"{self.model} at {', '.join(self.base_url)}"

    @property
    def key(self) -> str | None:
        """The key itself; never part of what is stored or shown. Raises ``UserError`` for one that cannot be sent."""
        variable = self.api_key or DEFAULT_KEY
        key = os.environ.get(variable, "").strip()
        if not (key.isascii() and key.isprintable()):  # the error of the HTTP client would show it
            raise UserError(f"the key in {variable} holds characters that cannot be sent; set it again, on one line")
        return key or None
