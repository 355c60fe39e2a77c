"""Every switch of the method in one validated value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from dualfocus_eval.common.old_names import current_settings
from dualfocus_eval.method.crops import CROP_VERSIONS
from dualfocus_eval.method.selection import RULES

__all__ = ["METHOD_VERSION", "Settings", "settings_key", "stored_settings"]

METHOD_VERSION = 2
"""Raised when a change of this package can change a candidate, its scores or the choice between them, so that answers
stored before it are not reused. 2: letters are read in more forms, and option texts are scored for them."""


@dataclass(frozen=True)
class Settings:
    """How questions are answered. Resolved once per run: argument > recipe > checkpoint > family > these defaults.

    Raises ValueError, naming the setting and its allowed values, for a value that is not allowed.
    """

    strategy: Literal["dualfocus", "macro", "micro"] = "dualfocus"
    selection: str = "micro_context"
    """Which rule picks the answer where the candidates differ, a name in ``method.selection.RULES``. The trace records
    every rule whose needs are known."""
    score_all: bool = True
    """Score candidates in micro context even where ``selection`` does not need it, so that the trace allows every
    ablation."""
    adaptive_nll: float | None = None
    """Skip the micro pathway when the macro answer's NLL is below this (appendix C)."""
    prompt_set: Literal["released", "format1", "figure8"] = "released"
    box_convention: Literal["unit", "qwen_vl", "qwen2_vl", "qwen2_5_vl"] = "unit"
    """How the model writes a box; a name in ``method.boxes.CONVENTIONS``."""
    box_frame: Literal["image", "padded_square"] = "image"
    """What box coordinates are fractions of: the raw image, or the square that LLaVA-1.5 pads it to."""
    crop: Literal["full", "released"] = "full"
    margin: float = 25.0
    """Pixels of the original image by which the squared box is enlarged on every side."""
    jitter: float = 0.0
    """Pixels by which the predicted box is shifted along both axes (table 5); the direction is drawn per question."""
    jitter_seed: int = 0
    option_scoring: Literal["answer", "option_text"] = "option_text"
    """What is scored in micro context for a multiple-choice question: the answers as generated, or the option texts."""
    max_box_tokens: int = 64

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for setting in fields(self):
            allowed = get_args(hints[setting.name])
            value = getattr(self, setting.name)
            if allowed and all(isinstance(choice, str) for choice in allowed) and value not in allowed:
                raise ValueError(f"{setting.name}={value!r} is not one of: {', '.join(allowed)}")
        if self.selection not in RULES:
            raise ValueError(f"selection={self.selection!r} is not one of: {', '.join(RULES.items)}")
        for name in ("margin", "jitter"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value!r} must be a finite number of pixels, 0 or more")
        if self.max_box_tokens < 1:
            raise ValueError(f"max_box_tokens={self.max_box_tokens!r} must be 1 or more")
        if self.adaptive_nll is not None and not self.adaptive_nll >= 0:
            raise ValueError(f"adaptive_nll={self.adaptive_nll!r} must be 0 or more: a mean NLL, not a perplexity")

    @property
    def scores_candidates(self) -> bool:
        """Whether candidates that differ are scored in micro context."""
        needed = "micro_context_scores" in RULES[self.selection].needs
        return self.strategy == "dualfocus" and (self.score_all or needed)


def stored_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a file holds, by today's names; a setting that did not exist then has its default.

    A selection rule that is not installed here is left as it stands: what it picked is in the traces. Raises ValueError
    or TypeError for what no version of `Settings` was.
    """
    values = current_settings(stored)
    rule = values.pop("selection")
    if not isinstance(rule, str):
        raise TypeError(f"selection: {rule!r:.60} is not a text")
    return asdict(Settings(**values)) | {"selection": rule}


def settings_key(settings: Settings, identity: Mapping[str, str]) -> str:
    """Hex digest of all that can change a candidate or its scores; the selection rule is left out.

    ``identity`` names what runs the model: checkpoint, revision, adapter, dtype, processor options and the like.
    """
    relevant = {name: value for name, value in asdict(settings).items() if name not in {"selection", "score_all"}}
    relevant |= {
        "scores_candidates": settings.scores_candidates,
        "method_version": METHOD_VERSION,
        "crop_version": CROP_VERSIONS[settings.crop],
    }
    text = json.dumps({"settings": relevant, "identity": dict(identity)}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
