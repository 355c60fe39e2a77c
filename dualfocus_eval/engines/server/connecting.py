"""Finds servers, and what they serve and can do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from anyio.from_thread import start_blocking_portal

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import RunEndedError
from dualfocus_eval.engines.server.abilities import Abilities
from dualfocus_eval.engines.server.beginning import Beginnings, find_beginnings
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.fingerprint import Fingerprint
from dualfocus_eval.engines.server.messages import ImageUrls
from dualfocus_eval.engines.server.pool import ServerPool
from dualfocus_eval.engines.server.probing import Served, probe_all, served_by
from dualfocus_eval.engines.server.processor import at_hand, options_to_send
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError, Reply
from dualfocus_eval.engines.server.retrying import starting
from dualfocus_eval.engines.server.running import ServerEngine
from dualfocus_eval.engines.server.server import RequestFailedError, Server
from dualfocus_eval.engines.server.shared import Shared
from dualfocus_eval.engines.server.two_passes import TwoPasses

__all__ = ["connect"]

logger = logging.getLogger(__name__)


def connect(config: ServerConfig) -> ServerEngine:
    """Find out what the servers of ``config`` serve and can do. Raises ``UserError`` where they cannot be used."""
    family, tokens = at_hand(config)
    with ExitStack() as stack:  # an interruption cancels what is asked
        portal = stack.enter_context(start_blocking_portal())
        servers, served, abilities, fingerprint, passes = portal.call(partial(_connect, config, tokens))
        options = portal.call(options_to_send, servers, served.model, abilities, tokens, config)
        beginnings = portal.call(_beginnings, servers[0], served.model, tokens, abilities)

        def check(reply: Reply) -> None:
            if difference := fingerprint.difference_of_software(reply.configuration):
                raise _become_another(", ".join(config.base_url), difference)

        shared = Shared(
            portal,
            portal.call(_pool, servers, config),
            ImageUrls(),
            served.model,
            abilities,
            tokens,
            family,
            check,
            image_options=options,
            beginnings=beginnings,
        )
        logger.info("%s: %s; it can: %s", config.described, served.software, abilities)
        return ServerEngine(shared, config, served, fingerprint, passes, stack.pop_all())


async def _beginnings(server: Server, model: str, tokens: PromptTokens | None, abilities: Abilities) -> Beginnings:
    if tokens is None or tokens.template.thinking is None:
        return Beginnings()
    if not abilities.token_ids:  # nothing would show whether a way has worked
        return Beginnings(None, None)
    try:
        return await find_beginnings(server, model, tokens)
    except RequestFailedError as failure:
        raise UserError(f"{server.address}: {failure}") from failure


async def _pool(servers: Sequence[Server], config: ServerConfig) -> ServerPool:
    return ServerPool(servers, config)


async def _connect(
    config: ServerConfig, tokens: PromptTokens | None
) -> tuple[list[Server], Served, Abilities, Fingerprint, TwoPasses]:
    servers = [Server(address, config) for address in config.base_url]
    served = [await served_by(server, config) for server in servers]
    for server, other in zip(servers[1:], served[1:], strict=True):
        if (other.model, other.software) != (served[0].model, served[0].software):
            raise UserError(
                f"{server.address} serves {other.model} ({other.software}), {servers[0].address} serves "
                f"{served[0].model} ({served[0].software}); give servers of one model and version"
            )
    abilities = await probe_all(servers, served[0], config)
    passes = await TwoPasses.on(servers, served, abilities, tokens, config)
    try:
        fingerprints: list[Fingerprint] = [
            await starting(server, config)(Fingerprint.of, server, served[0].model, logprobs=abilities.logprobs)
            for server in servers
        ]
    except (RequestFailedError, BadReplyError) as failure:
        raise UserError(f"{', '.join(config.base_url)}: {failure}") from failure
    first = fingerprints[0]
    for server, fingerprint in zip(servers[1:], fingerprints[1:], strict=True):
        if difference := first.difference(fingerprint):
            raise UserError(
                f"{server.address} and {servers[0].address} do not serve the same: the former has {difference}; give "
                "servers of one checkpoint and configuration"
            )
    for server in servers:
        server.verify = partial(_verify, server, served[0].model, first, logprobs=abilities.logprobs)
    return servers, served[0], abilities, first, passes


async def _verify(server: Server, model: str, first: Fingerprint, *, logprobs: bool) -> None:
    """Raise ``RunEndedError`` where ``server`` is not the one of the run's beginning any more."""
    if difference := first.difference(await Fingerprint.of(server, model, logprobs=logprobs)):
        raise _become_another(server.address, difference)


def _become_another(address: str, difference: str) -> RunEndedError:
    return RunEndedError(
        f"{address}: the server was replaced in mid-run: it now has {difference}. The answers of the first one are "
        "stored, none of the other is: serve the first one again and repeat the command, or pass a new trace_dir or "
        "--output_path"
    )
