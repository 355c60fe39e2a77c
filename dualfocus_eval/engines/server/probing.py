"""What servers can do, found out by asking them before a run begins."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyio.from_thread import start_blocking_portal
from PIL import Image
from pydantic import BaseModel, ValidationError

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import did_you_mean
from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.engines.server.abilities import Abilities, id_parameters
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.messages import trial
from dualfocus_eval.engines.server.replies import BadReplyError, Reply, is_floor
from dualfocus_eval.engines.server.retrying import starting
from dualfocus_eval.engines.server.route import proxy_note
from dualfocus_eval.engines.server.server import RequestFailedError, Server

__all__ = ["Served", "probe_all", "sample_conversation", "served_by", "served_model"]

logger = logging.getLogger(__name__)

SGLANG = "sglang"
"""What SGLang calls itself in its list of models."""
_ROUNDING = 1e-3
"""By how much a log-probability may exceed 0."""
_PAUSE = 2.0
"""Seconds between two looks at a server that is still loading."""
_SHOWN = 10
"""Names of models in one message; public services have many."""
_PROGRESS = 30.0
"""Seconds between two lines on waiting for it."""


class _Model(BaseModel):
    id: str
    root: str | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    parent: str | None = None


class _Models(BaseModel):
    data: list[_Model]


@dataclass(frozen=True)
class Served:
    """The model that a server says it serves."""

    model: str
    root: str | None
    """Where the server has it from: a folder of its own machine, or a hub id."""
    software: str
    """Name and version of the server."""
    max_tokens: int | None
    """Most tokens of prompt and answer together; None where it does not say."""

    @property
    def is_sglang(self) -> bool:
        return self.software.partition(" ")[0] == SGLANG


async def served_by(server: Server, config: ServerConfig) -> Served:
    """What ``server`` serves; waits while it is loading. Raises ``UserError`` that says what to do."""
    models = await _models(server, config.timeout)
    model = _chosen(models, config.model, server.address)
    if model.owned_by == SGLANG and model.parent:
        raise UserError(
            f"{server.address}: {model.id!r} is an adapter, which this client cannot ask SGLang for: merge it into its "
            "checkpoint and serve that, or serve it with vLLM"
        )
    software = await _software(server, model.owned_by)
    return Served(model.id, model.root, software, model.max_model_len)


async def _software(server: Server, owner: str | None) -> str:
    """Name and version of what serves the model, as far as it says."""
    places = ("/server_info", "/get_server_info") if owner == SGLANG else ("/version",)
    for place in places:
        try:
            version = json.loads(await server.get(place, root=True))["version"]
        except (RequestFailedError, ValueError, KeyError, TypeError):
            continue
        return f"{SGLANG if owner == SGLANG else 'vllm'} {version}"
    return owner or "unknown"


def served_model(config: ServerConfig) -> Served:
    """What the first server of ``config`` serves; see `served_by`."""

    async def ask() -> Served:
        server = Server(config.base_url[0], config)
        try:
            return await served_by(server, config)
        finally:
            await server.close()

    with start_blocking_portal() as portal:  # a notebook has an event loop in this thread already
        return portal.call(ask)


async def _models(server: Server, patience: float) -> list[_Model]:
    """The models that ``server`` lists. A vLLM server refuses connections while it loads, so those are waited for."""
    place = server.address + proxy_note(server.address)
    begin = told = time.monotonic()
    while True:
        try:
            return _Models.model_validate_json(await server.get("/models")).data
        except ValidationError as error:
            raise UserError(
                f"{place}: it does not answer as an OpenAI-compatible server; is base_url right?"
            ) from error
        except RequestFailedError as failure:
            now = time.monotonic()
            may_pass = failure.passing and failure.kind != "unknown_host"
            if not may_pass or now - begin + _PAUSE > patience:
                waited = f" (after {now - begin:.0f} s)" if may_pass else ""
                raise UserError(_unusable(place, failure, waited)) from failure
            if told == begin or now - told >= _PROGRESS:
                told = now
                logger.warning(
                    "%s: %s; it may be loading: waiting for it, %.0f of up to %.0f s (if the address is wrong, stop "
                    "and correct base_url)",
                    *(place, failure, now - begin, patience),
                )
        await asyncio.sleep(_PAUSE)


def _unusable(place: str, failure: RequestFailedError, waited: str) -> str:
    if failure.kind in ("key_refused", "insecure"):
        return f"{place}: {failure}"
    return f"{place}: {failure}{waited}; is base_url right, and the server running?"


def _chosen(models: Sequence[_Model], wanted: str | None, address: str) -> _Model:
    names = [model.id for model in models]
    served = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if wanted is None:
        if len(models) != 1:
            raise UserError(f"{address}: it serves {served or 'no model'}; choose one with model=")
        return models[0]
    for model in models:
        if model.id == wanted:
            return model
    raise UserError(
        f"{address}: it does not serve {wanted!r} but {served or 'no model'}; set model=.{did_you_mean(wanted, names)}"
    )


def sample_conversation(images: int = 1, turns: Sequence[str] = ()) -> Conversation:
    """A conversation of small images and few words to try a server with."""
    picture = Picture(Image.linear_gradient("L").resize((80, 60)).convert("RGB"))
    messages = [Message("user", (picture, "What is this?"))]
    for number, turn in enumerate(turns):
        parts = (picture, "And this?") if number + 1 < images else ("And now?",)
        messages += [Message("assistant", (turn,)), Message("user", parts)]
    return tuple(messages)


async def probe_all(servers: Sequence[Server], served: Served, config: ServerConfig) -> Abilities:
    """Find out what ``servers`` can do. Raises ``UserError`` where one cannot do what another can."""
    first, *others = await asyncio.gather(*(probe(server, served, config) for server in servers))
    for server, other in zip(servers[1:], others, strict=True):
        apart = [name for name, value in vars(first).items() if value != vars(other)[name]]
        if apart:
            able, unable = (servers[0], server) if vars(first)[apart[0]] else (server, servers[0])
            raise UserError(
                f"{able.address} offers {apart[0]} and {unable.address} does not: give servers of one version that are "
                "started alike (`dualfocus serve-command` prints how)"
            )
    return first


async def probe(server: Server, served: Served, config: ServerConfig) -> Abilities:
    """Find out what ``server`` can do. Raises ``UserError`` where it cannot answer about an image at all."""

    async def ask(more: Mapping[str, Any], **how: Any) -> Reply | None:
        return await _answer(server, await trial(served.model, sample_conversation(), more, **how), config)

    await _require(server, await trial(served.model, sample_conversation()), config)
    logprobs = {"logprobs": True, "top_logprobs": 2}
    native = served.is_sglang
    ids = {**logprobs, **id_parameters(native)}
    scores = {**ids, "add_generation_prompt": False, "continue_final_message": True}
    plain = await ask(logprobs)
    has_logprobs = plain is not None and bool(plain.choice.tokens)
    reply = await ask(ids)
    has_ids = reply is not None and bool(reply.choice.token_ids) and bool(reply.prompt_token_ids)
    wanted = reply.choice.token_ids if has_ids and reply and not native else None
    forced = await ask({**scores, "allowed_token_ids": wanted}, begun="A") if wanted else None
    can_force = forced is not None and forced.choice.token_ids == wanted
    _require_logprobs(server, plain, forced)
    prompt = await ask({**scores, "prompt_logprobs": 1}, begun="A") if can_force else None
    named = await ask({}, named=True) if not native else None
    # A server whose cache of prepared images is off, or is one of several, takes the name and does not know it again.
    known = await ask({}, known=True) if named is not None else None
    return Abilities(
        logprobs=has_logprobs,
        token_ids=has_ids,
        forced_tokens=has_logprobs and can_force,
        prompt_logprobs=prompt is not None and bool(prompt.prompt_logprobs),
        image_uuids=known is not None and has_ids,
        native_scores=native and has_ids,
    )


def _require_logprobs(server: Server, plain: Reply | None, forced: Reply | None) -> None:
    """Raise ``UserError`` where logits come as log-probabilities, or those of a ``forced`` token among it alone."""
    free, only = ([*reply.choice.tokens] if reply else [] for reply in (plain, forced))
    if any(token.logprob is not None and token.logprob > _ROUNDING for token in (*free, *only)):
        wrong = "logits"
    elif any(not is_floor(token.logprob or 0.0) and any(map(is_floor, token.likeliest)) for token in only):
        wrong = "log-probabilities of the allowed tokens only"
    else:
        return
    raise UserError(
        f"{server.address}: it returns {wrong}, which are no likelihoods of a text: start it without --logprobs-mode, "
        "or with raw_logprobs"
    )


async def _tried(server: Server, body: Mapping[str, Any], config: ServerConfig) -> Reply:
    return await starting(server, config)(server.reply, body, logprobs=False, token_ids=False)


async def _answer(server: Server, body: Mapping[str, Any], config: ServerConfig) -> Reply | None:
    """The reply, or None where the server refuses the request."""
    try:
        return await _tried(server, body, config)
    except BadReplyError:
        return None
    except RequestFailedError as failure:
        if failure.passing:
            raise UserError(f"{server.address}: {failure}") from failure
        return None


async def _require(server: Server, body: Mapping[str, Any], config: ServerConfig) -> None:
    try:
        await _tried(server, body, config)
    except RequestFailedError as failure:
        if failure.passing or failure.kind == "key_refused":
            raise UserError(f"{server.address}: {failure}") from failure
        raise _cannot_answer(server, failure) from failure
    except BadReplyError as failure:
        raise _cannot_answer(server, failure) from failure


def _cannot_answer(server: Server, failure: Exception) -> UserError:
    remedy = "serve a vision-language model"
    if getattr(failure, "kind", None) == "too_long":
        remedy = "start it with a longer --max-model-len (SGLang: --context-length)"
    return UserError(f"{server.address}: it cannot answer about an image: {failure}; {remedy}")
