"""How many tokens the longest prompt of two passes takes, with the answer to it."""

from __future__ import annotations

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.serving.serving import IMAGES

__all__ = ["context_tokens"]

_TEXT = 1024
"""Tokens of a question with its options, in both passes, of the template, and of a system prompt."""
_STEP = 1024


def context_tokens(config: EngineConfig, settings: Settings, new_tokens: int) -> int | None:
    """Tokens of two large images, the texts and an answer of ``new_tokens``; None without a processor.

    Rounded up to a multiple of 1024. No weight is loaded.
    """
    from dualfocus_eval.engines.image_sizes import largest_image_tokens
    from dualfocus_eval.engines.loading import load_processor
    from dualfocus_eval.engines.thinking import ThinkingFormat

    try:
        _, processor, family = load_processor(config)
    except (CheckpointError, UserError):
        return None
    image = largest_image_tokens(processor)
    if image is None:
        return None
    thinks = ThinkingFormat.of(processor, family.thinking) is not None
    answer = new_tokens + (settings.max_thinking_tokens if thinks else 0)
    needed = IMAGES * image + _TEXT + settings.max_box_tokens + answer
    return -(-needed // _STEP) * _STEP
