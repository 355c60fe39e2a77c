"""Every switch of the method in one validated value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args, get_type_hints

from dualfocus_eval.method.crops import CROP_VERSIONS

__all__ = ["METHOD_VERSION", "Settings", "settings_key"]

METHOD_VERSION = 2
"""Raised when a change of this package can change a candidate, its scores or the choice between them, so that answers
stored before it are not reused. 2: letters are read in more forms, and option texts are scored for them."""


@dataclass(frozen=True)
class Settings:
    """How questions are answered. Resolved once per run: argument > recipe > checkpoint > family > these defaults.

    Raises ValueError, naming the setting and its allowed values, for a value that is not allowed.
    """

    strategy: Literal["dualfocus", "macro", "micro"] = "dualfocus"
    selection: Literal["own", "micro", "released"] = "micro"
    """Which rule picks the answer where the candidates differ; the trace records every rule it has the scores for."""
    score_all: bool = True
    """Score candidates in micro context even when ``selection`` is ``own``, so that the trace allows every ablation."""
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
        return self.strategy == "dualfocus" and (self.score_all or self.selection != "own")


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
