"""The checkpoint's own processor on this machine, by which the servers' prompts and images are understood."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Message, Picture
from dualfocus_eval.engines.checkpoint import end_tokens
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_generation_settings, load_processor
from dualfocus_eval.engines.server.abilities import Abilities
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.messages import trial
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.server import RequestFailedError, Server
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import Family
from dualfocus_eval.families.generic import UNKNOWN, generic_family

__all__ = ["at_hand", "image_options", "options_to_send"]

_LONGEST = 4096
"""Pixels a side of the largest image that a server is tried with."""


def at_hand(config: ServerConfig) -> tuple[Family, PromptTokens | None]:
    """The family, and how the checkpoint's own processor tokenises prompts; nothing of it where there is none.

    Raises ``CheckpointError``, and ``UserError`` for limits of image sizes that do not apply to it.
    """
    if config.pretrained is None:
        if config.min_pixels or config.max_pixels:
            raise UserError("min_pixels and max_pixels need the checkpoint's processor: name it with pretrained=")
        return generic_family(UNKNOWN), None
    checkpoint = EngineConfig(
        config.pretrained,
        revision=config.revision,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        trust_remote_code=config.trust_remote_code,
    )
    model_config, processor, family = load_processor(checkpoint)
    settings = load_generation_settings(checkpoint, model_config)
    rows = model_config.get_text_config().vocab_size
    ends = end_tokens(settings, processor.tokenizer, rows, config.pretrained)
    template = ChatTemplate(processor, frozenset(ends), ends[0], ThinkingFormat.of(processor, family.thinking))
    return family, PromptTokens(template, settings.repetition_penalty or 1.0)


def image_options(config: ServerConfig, tokens: PromptTokens | None) -> dict[str, Any]:
    """vLLM's ``mm_processor_kwargs``: the limits of the processor at hand, so that both resize images alike."""
    if tokens is None or not (config.min_pixels or config.max_pixels):
        return {}
    size = tokens.template.processor.image_processor.size
    return {"size": {name: size[name] for name in ("shortest_edge", "longest_edge")}}


async def options_to_send(
    servers: Sequence[Server], model: str, abilities: Abilities, tokens: PromptTokens | None, config: ServerConfig
) -> dict[str, Any]:
    """`image_options` where ``servers`` take them with a request, nothing where they have been started with them.

    vLLM takes them only under ``--trust-request-mm-kwargs``. Raises ``UserError`` where one resizes images otherwise
    than the processor at hand, or does not show how, and where only some have been started with the options.
    """
    options = image_options(config, tokens)
    if tokens is None or not options:
        return {}
    first, *others = [await _taken(server, model, abilities, tokens, config, options) for server in servers]
    for server, other in zip(servers[1:], others, strict=True):
        if other != first:
            by_request, started = (servers[0], server) if first else (server, servers[0])
            raise UserError(
                f"{started.address} was started with the limits of min_pixels and max_pixels and {by_request.address} "
                "without: give servers that are started alike (`dualfocus serve-command` prints how)"
            )
    return first


async def _taken(
    server: Server,
    model: str,
    abilities: Abilities,
    tokens: PromptTokens,
    config: ServerConfig,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What of ``options`` one server is to be sent."""
    images = [Image.new("RGB", size) for size in _telling(config)]
    expected = [tokens.image_tokens(image) for image in images]
    for sent in (dict(options), {}):
        more = {"mm_processor_kwargs": sent} if sent else {}
        if await _counts(server, model, {**abilities.id_parameters, **more}, images, tokens) == expected:
            return sent
    size = json.dumps(options)
    raise UserError(
        f"{server.address}: the server does not resize images to min_pixels and max_pixels; start it with "
        f"--mm-processor-kwargs '{size}', or with --trust-request-mm-kwargs"
    )


def _telling(config: ServerConfig) -> list[tuple[int, int]]:
    """Sizes of images that the limits change, in pixels."""
    smaller = (math.isqrt(config.min_pixels) // 2 or 1,) * 2 if config.min_pixels else None
    larger = (min(2 * math.isqrt(config.max_pixels), _LONGEST),) * 2 if config.max_pixels else None
    return [size for size in (smaller, larger) if size]


async def _counts(
    server: Server, model: str, more: dict[str, Any], images: Sequence[Image.Image], tokens: PromptTokens
) -> list[int] | None:
    """How many tokens the server makes of each of ``images``; None where it refuses ``more`` or does not show them."""
    found = []
    for image in images:
        conversation = (Message("user", (Picture(image), "?")),)
        request = await trial(model, conversation, more)
        try:
            reply = await server.reply(request, logprobs=False, token_ids=False)
        except RequestFailedError as failure:
            if failure.kind == "bad_request":
                return None
            raise UserError(f"{server.address}: {failure}") from failure
        found.append(sum(part for part in tokens.parts(reply.prompt_token_ids or ()) if isinstance(part, int)))
    return found
