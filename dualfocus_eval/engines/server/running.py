"""A run's engine in front of servers: found, probed, and kept an eye on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    RunEndedError,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.environment import packages
from dualfocus_eval.engines.identity import processor_digest
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.engines.running import EngineInfo, RunEngine
from dualfocus_eval.engines.server.abilities import Abilities
from dualfocus_eval.engines.server.beginning import Beginnings, find_beginnings
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.engine import ServerCalls, Shared
from dualfocus_eval.engines.server.fingerprint import Fingerprint
from dualfocus_eval.engines.server.messages import ImageUrls
from dualfocus_eval.engines.server.pool import ServerPool
from dualfocus_eval.engines.server.probing import Served, probe, served_by
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError, Reply
from dualfocus_eval.engines.server.retrying import retrying
from dualfocus_eval.engines.server.server import RequestFailedError, Server
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import Family
from dualfocus_eval.families.generic import generic_family

__all__ = ["ServerEngine", "connect"]

logger = logging.getLogger(__name__)


class ServerEngine(ServerCalls, RunEngine):
    """All servers of a run."""

    def __init__(
        self,
        shared: Shared,
        config: ServerConfig,
        served: Served,
        fingerprint: Fingerprint,
        portal: AbstractContextManager[BlockingPortal],
    ) -> None:
        super().__init__(shared)
        self.parallel_calls = config.concurrency
        self._served, self._fingerprint, self._portal = served, fingerprint, portal

    @property
    def counters(self) -> Counters:
        return self._shared.total

    @property
    def identity(self) -> str:
        content = json.dumps(dict(self.key), sort_keys=True).encode()
        name = self._served.model.rstrip("/").rpartition("/")[2]
        return f"{name}-{hashlib.blake2b(content, digest_size=16).hexdigest()}"

    @property
    def family(self) -> Family:
        return self._shared.family

    @property
    def info(self) -> EngineInfo:
        abilities = vars(self._shared.abilities).items()
        served = {
            "servers": ", ".join(server.address for server in self._shared.pool.servers),
            "model": self._served.model,
            "abilities": ", ".join(name for name, can in abilities if can) or "none",
            "not able to": ", ".join(name for name, can in abilities if not can),
        }
        known = {name: value for name, value in served.items() if value}
        return EngineInfo(f"server ({self._served.software})", self.family.name, None, None, None, served=known)

    @property
    def key(self) -> Mapping[str, str]:
        tokens = self._shared.tokens
        return {
            "engine": "server",
            "model": self._served.model,
            "root": self._served.root or "",
            "processor": processor_digest(tokens.template.processor) if tokens else "",
            "family_version": str(self.family.version),
        }

    @property
    def arithmetic(self) -> Mapping[str, str]:
        return {"server": self._served.software, "system_fingerprint": self._fingerprint.software or ""}

    @property
    def environment(self) -> Mapping[str, Any]:
        return {"packages": packages(), **self.arithmetic, "abilities": vars(self._shared.abilities)}

    @property
    def thinks(self) -> bool:
        return self._shared.tokens is not None and self._shared.tokens.template.thinking is not None

    @property
    def chat_template(self) -> str | None:
        tokens = self._shared.tokens
        return tokens.template.processor.chat_template if tokens else None

    @property
    def warnings(self) -> tuple[str, ...]:
        shared = self._shared
        found = [
            f"{address} did not answer and was left out {count} times"
            for address, count in shared.pool.taken_out.items()
        ]
        if shared.retokenised:
            found.append(
                f"{shared.retokenised} prompts were tokenised by the server otherwise than the model had generated them"
            )
        if shared.pool.retried:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(shared.pool.retried.items()))
            found.append(f"requests that were sent again: {kinds}")
        return tuple(found)

    @property
    def can_score(self) -> bool:
        """Whether given texts can be scored."""
        shared = self._shared
        return shared.abilities.forced_tokens and shared.tokens is not None and shared.beginnings.complete

    @property
    def can_skip_thinking(self) -> bool:
        """Whether it can be made to answer at once."""
        return self._shared.beginnings.empty is not None

    @property
    def has_logprobs(self) -> bool:
        """Whether answers come with their log-probabilities."""
        return self._shared.abilities.logprobs

    @property
    def has_end_token(self) -> bool:
        """Only token ids show that the end token is among what a reply holds."""
        return self._shared.abilities.token_ids

    def claim_traces(self, folder: Path) -> None:
        """See `RunEngine.claim_traces`; the server's fingerprint lies beside the traces."""
        self._fingerprint.claim(folder / f"server-{self.identity.rpartition('-')[2]}.json")

    def call_engine(self) -> Engine:
        """The engine for one of several calls at the same time, with counters of its own."""
        return ServerCalls(self._shared)

    def other_ways(self) -> Mapping[str, Callable[[], Engine]]:
        """The same requests once more, as many at a time as in a run, and one at a time."""
        together = f"again, {self.parallel_calls} at a time"
        return {together: self.call_engine, "again, one at a time": partial(_OneByOne, self._shared)}

    def prompt_parts(self, conversation: Conversation) -> tuple[str | int, ...]:
        """The prompt as the server makes it, by the ids that it returns; see `RunEngine.prompt_parts`."""
        shared = self._shared
        if shared.tokens is None or not shared.abilities.token_ids:
            return ()
        reply = shared.portal.call(self._ask, conversation, (), {"max_tokens": 1}, False)
        return shared.tokens.parts(reply.prompt_token_ids)

    def expected_image_tokens(self, picture: Picture) -> int | None:
        """By the checkpoint's own processor; None where that is not at hand."""
        tokens = self._shared.tokens
        return tokens.image_tokens(picture.pixels) if tokens else None

    def close(self) -> None:
        async def close_all() -> None:
            for server in self._shared.pool.servers:
                await server.close()

        self._shared.portal.call(close_all)
        self._portal.__exit__(None, None, None)


class _OneByOne(ServerCalls):
    """No two requests at the same time."""

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        return [ServerCalls.generate(self, [request])[0] for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        return [ServerCalls.score(self, [request])[0] for request in requests]


def connect(config: ServerConfig) -> ServerEngine:
    """Find out what the servers of ``config`` serve and can do. Raises ``UserError`` where they cannot be used."""
    family, tokens = _tokens(config)
    context = start_blocking_portal()
    portal = context.__enter__()
    try:
        found = portal.call(partial(_connect, config))
        beginnings = portal.call(_beginnings, found[0][0], found[1].model, tokens, found[2])
    except BaseException:
        context.__exit__(None, None, None)
        raise
    servers, served, abilities, fingerprint = found

    def check(reply: Reply) -> None:
        if difference := fingerprint.difference_of_software(reply.system_fingerprint):
            raise _become_another(", ".join(config.base_url), difference)

    pool = portal.call(_pool, servers, config)
    shared = Shared(portal, pool, ImageUrls(), served.model, abilities, tokens, family, check, beginnings=beginnings)
    logger.info("%s: %s; it can: %s", config.described, served.software, abilities)
    return ServerEngine(shared, config, served, fingerprint, context)


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


async def _connect(config: ServerConfig) -> tuple[list[Server], Served, Any, Fingerprint]:
    servers = [Server(address, config) for address in config.base_url]
    served = [await served_by(server, config) for server in servers]
    for server, other in zip(servers[1:], served[1:], strict=True):
        if (other.model, other.software) != (served[0].model, served[0].software):
            raise UserError(
                f"{server.address} serves {other.model} ({other.software}), {servers[0].address} serves "
                f"{served[0].model} ({served[0].software}); give servers of one model and version"
            )
    abilities = await probe(servers[0], served[0].model, config)
    try:
        fingerprints: list[Fingerprint] = [
            await retrying(config)(Fingerprint.of, server, served[0].model, logprobs=abilities.logprobs)
            for server in servers
        ]
    except (RequestFailedError, BadReplyError) as failure:
        raise UserError(f"{', '.join(config.base_url)}: {failure}") from failure
    first = fingerprints[0]
    for server, theirs in zip(servers[1:], fingerprints[1:], strict=True):
        if difference := first.difference(theirs):
            raise UserError(
                f"{server.address} and {servers[0].address} do not serve the same: the former has {difference}; give "
                "servers of one checkpoint and configuration"
            )
    for server in servers:
        server.verify = partial(_verify, server, served[0].model, first, logprobs=abilities.logprobs)
    return servers, served[0], abilities, first


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


def _tokens(config: ServerConfig) -> tuple[Family, PromptTokens | None]:
    """The family, and how the checkpoint's own processor tokenises prompts; nothing of it where there is none."""
    if config.pretrained is None:
        return generic_family("unknown"), None
    checkpoint = EngineConfig(config.pretrained, revision=config.revision, trust_remote_code=config.trust_remote_code)
    _, processor, family = load_processor(checkpoint)
    end = processor.tokenizer.eos_token_id
    thinking = ThinkingFormat.of(processor, family.thinking)
    return family, PromptTokens(ChatTemplate(processor, frozenset([end]), end, thinking))
