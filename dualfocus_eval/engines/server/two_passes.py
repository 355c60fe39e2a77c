"""Whether servers can be asked in two passes: two images in a prompt, the checkpoint's template, enough context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Conversation
from dualfocus_eval.engines.image_sizes import largest_image_tokens
from dualfocus_eval.engines.server.abilities import Abilities
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.messages import trial
from dualfocus_eval.engines.server.probing import Served, sample_conversation
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError, Reply
from dualfocus_eval.engines.server.retrying import starting
from dualfocus_eval.engines.server.server import RequestFailedError, Server
from dualfocus_eval.engines.template import RenderingError

__all__ = ["TwoPasses"]

_IMAGES = 2
_TEXTS = 256
"""Tokens of a short question in both passes and of its answer."""


@dataclass(frozen=True)
class TwoPasses:
    """What stands in the way of the method."""

    problem: str | None
    """Why a server cannot answer in two passes, with what to do, on one line; None where all can."""
    warning: str | None
    """What will fail for some images; None where none should."""

    @classmethod
    async def on(
        cls,
        servers: Sequence[Server],
        served: Sequence[Served],
        abilities: Abilities,
        tokens: PromptTokens | None,
        config: ServerConfig,
    ) -> TwoPasses:
        """Ask every one of ``servers``.

        Their template is compared with the checkpoint's where they return token ids and its processor is known.

        Raises ``UserError`` where a server fails otherwise than by refusing.
        """
        answers = (_problem(server, served[0].model, abilities, tokens, config) for server in servers)
        problems = [problem for problem in await asyncio.gather(*answers) if problem is not None]
        return cls(problems[0] if problems else None, _context_warning(served, tokens))


async def _problem(
    server: Server, model: str, abilities: Abilities, tokens: PromptTokens | None, config: ServerConfig
) -> str | None:
    for images in (1, 2):
        conversation = sample_conversation(images, ["A picture"] * (images - 1))
        body = await trial(model, conversation, abilities.id_parameters)
        try:
            reply: Reply = await starting(server, config)(
                server.reply, body, logprobs=False, token_ids=abilities.token_ids
            )
        except (RequestFailedError, BadReplyError) as failure:
            if isinstance(failure, RequestFailedError) and failure.passing:
                raise UserError(f"{server.address}: {failure}") from failure
            number = ("an image", "two images")[images - 1]
            return f"{server.address}: it cannot answer about {number}: {failure}; {_remedy(failure)}"
        problem = _template_problem(reply, conversation, tokens) if tokens is not None else None
        if problem is not None:
            return f"{server.address}: {problem}"
    return None


def _remedy(failure: Exception) -> str:
    if getattr(failure, "kind", None) == "too_long":
        return "start it with a longer --max-model-len (SGLang: --context-length)"
    if "image" in str(failure).lower():
        return "start it with --limit-mm-per-prompt '{\"image\":2}' (SGLang: --limit-mm-data-per-request)"
    return "`dualfocus serve-command` prints how to start one that can"


def _template_problem(reply: Reply, conversation: Conversation, tokens: PromptTokens) -> str | None:
    if reply.prompt_token_ids is None:
        return None
    try:
        agrees = PromptTokens.agree(tokens.segments(conversation), reply.prompt_token_ids)
    except RenderingError as error:
        return str(error)
    if agrees:
        return None
    turns = "second turn" if len(conversation) > 1 else "first turn"
    return (
        f"its prompt is not that of the checkpoint's chat template, from the {turns} on: start it without "
        "--chat-template, or with the checkpoint's own file; if it serves another checkpoint, name that with "
        "pretrained="
    )


def _context_warning(served: Sequence[Served], tokens: PromptTokens | None) -> str | None:
    image = largest_image_tokens(tokens.template.processor) if tokens is not None else None
    shortest = min((one.max_tokens for one in served if one.max_tokens is not None), default=None)
    if image is None or shortest is None or _IMAGES * image + _TEXTS <= shortest:
        return None
    return (
        f"two large images take {_IMAGES * image} tokens and the server's context is {shortest}: questions about such "
        "images will fail; raise its --max-model-len (SGLang: --context-length), or lower max_pixels"
    )
