"""The checkpoint's own processor on this machine, by which the servers' prompts and images are understood."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import Family
from dualfocus_eval.families.generic import generic_family

__all__ = ["at_hand", "image_options"]


def at_hand(config: ServerConfig) -> tuple[Family, PromptTokens | None]:
    """The family, and how the checkpoint's own processor tokenises prompts; nothing of it where there is none.

    Raises ``CheckpointError``, and ``UserError`` for limits of image sizes that do not apply to it.
    """
    if config.pretrained is None:
        if config.min_pixels or config.max_pixels:
            raise UserError("min_pixels and max_pixels need the checkpoint's processor: name it with pretrained=")
        return generic_family("unknown"), None
    checkpoint = EngineConfig(
        config.pretrained,
        revision=config.revision,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        trust_remote_code=config.trust_remote_code,
    )
    _, processor, family = load_processor(checkpoint)
    end = processor.tokenizer.eos_token_id
    thinking = ThinkingFormat.of(processor, family.thinking)
    return family, PromptTokens(ChatTemplate(processor, frozenset([end]), end, thinking))


def image_options(config: ServerConfig, tokens: PromptTokens | None) -> dict[str, Any]:
    """vLLM's ``mm_processor_kwargs``: the limits of the processor at hand, so that both resize images alike."""
    if tokens is None or not (config.min_pixels or config.max_pixels):
        return {}
    size = tokens.template.processor.image_processor.size
    return {"size": {name: size[name] for name in ("shortest_edge", "longest_edge")}}
