"""A run's engine in front of servers."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.environment import packages
from dualfocus_eval.engines.identity import processor_digest
from dualfocus_eval.engines.running import EngineInfo, RunEngine
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.engine import ServerCalls
from dualfocus_eval.engines.server.fingerprint import Fingerprint
from dualfocus_eval.engines.server.probing import Served
from dualfocus_eval.engines.server.shared import Shared
from dualfocus_eval.engines.server.two_passes import TwoPasses
from dualfocus_eval.families import Family

__all__ = ["ServerEngine"]

_BEFORE_PENALTY = (
    "the checkpoint has a repetition_penalty: vLLM chooses words after it and returns their log-probabilities from "
    "before it, so perplexities are unlike those of the engine in process, which are from after it"
)


class ServerEngine(ServerCalls, RunEngine):
    """All servers of a run."""

    def __init__(
        self,
        shared: Shared,
        config: ServerConfig,
        served: Served,
        fingerprint: Fingerprint,
        passes: TwoPasses,
        resources: ExitStack,
    ) -> None:
        super().__init__(shared)
        self.parallel_calls = config.concurrency
        self._served, self._fingerprint, self._passes = served, fingerprint, passes
        self._closing = weakref.finalize(self, resources.close)  # at the interpreter's end too

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

    @cached_property
    def key(self) -> Mapping[str, str]:
        tokens = self._shared.tokens
        penalised = {"repetition_penalty": f"{tokens.repetition_penalty:g}"} if tokens and self._penalises else {}
        return {
            "engine": "server",
            "model": self._served.model,
            "root": self._served.root or "",
            "processor": processor_digest(tokens.template.processor) if tokens else "",
            "family_version": str(self.family.version),
            **penalised,
        }

    @property
    def _penalises(self) -> bool:
        """Whether the checkpoint has words that were said already become less likely."""
        tokens = self._shared.tokens
        return tokens is not None and tokens.repetition_penalty != 1

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
        found = [text for text in (self._passes.problem, self._passes.warning) if text is not None]
        if self._penalises and self.has_logprobs:
            found.append(_BEFORE_PENALTY)
        found += [
            f"{address} did not answer and was left out {'once' if count == 1 else f'{count} times'}"
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
    def scoring_problem(self) -> str | None:
        shared = self._shared
        if not shared.abilities.scores:
            return "this server cannot score given texts"
        if shared.tokens is None:
            return (
                "given texts are scored with the model's tokenizer, which is not known here: name the checkpoint, a "
                "folder or hub id, with pretrained="
            )
        if not shared.beginnings.complete:
            return "given texts cannot be scored, since this server cannot be made to answer without thinking"
        return None

    @property
    def can_skip_thinking(self) -> bool:
        """Whether it can be made to answer at once."""
        return self._shared.beginnings.empty is not None

    @property
    def has_logprobs(self) -> bool:
        """Whether answers come with their log-probabilities."""
        return self._shared.abilities.logprobs

    @property
    def two_pass_problem(self) -> str | None:
        return self._passes.problem

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

    def interrupt(self) -> None:
        """See `RunEngine.interrupt`."""
        self._shared.interrupt()

    def other_ways(self) -> Mapping[str, Callable[[], Engine]]:
        """The same requests once more, as many at a time as in a run, and one at a time."""
        together = f"again, {self.parallel_calls} at a time"
        return {together: self.call_engine, "again, one at a time": partial(_OneByOne, self._shared)}

    def prompt_parts(self, conversation: Conversation) -> tuple[str | int, ...]:
        """The prompt as the server makes it, by the ids that it returns; see `RunEngine.prompt_parts`."""
        shared = self._shared
        if shared.tokens is None or not shared.abilities.token_ids:
            return ()
        segments = self._segments(conversation, answering=False)
        reply = shared.portal.call(self._ask, conversation, (), {"max_tokens": 1}, False, segments)
        return shared.tokens.parts(reply.prompt_token_ids)

    def expected_image_tokens(self, picture: Picture) -> int | None:
        """By the checkpoint's own processor; None where that is not at hand."""
        tokens = self._shared.tokens
        return tokens.image_tokens(picture.pixels) if tokens else None

    def close(self) -> None:
        if not self._closing.alive:
            return

        async def close_all() -> None:
            for server in self._shared.pool.servers:
                await server.close()

        self._shared.portal.call(close_all)
        self._closing()


class _OneByOne(ServerCalls):
    """No two requests at the same time."""

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        return [ServerCalls.generate(self, [request])[0] for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        return [ServerCalls.score(self, [request])[0] for request in requests]
