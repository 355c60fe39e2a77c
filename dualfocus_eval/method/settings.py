"""Every switch of the method in one validated value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How questions are answered. Resolved once per run: argument > recipe > checkpoint > family > these defaults."""

    strategy: Literal["dualfocus", "macro", "micro"] = "dualfocus"
    selection: Literal["own", "micro", "released"] = "micro"
    """Which rule picks the answer where the candidates differ; the trace records every rule it has the scores for."""
    score_all: bool = True
    """Score candidates in micro context even when ``selection`` is ``own``, so that the trace allows every ablation."""
    adaptive_nll: float | None = None
    """Skip the micro pathway when the macro answer's NLL is below this (appendix C)."""
    wording: Literal["released", "format1", "figure8"] = "released"
    box_convention: str = "unit"
    """Name in ``method.boxes.CONVENTIONS``: unit, qwen_vl, qwen2_vl, qwen2_5_vl."""
    box_frame: Literal["image", "padded_square"] = "image"
    crop: Literal["full", "released"] = "full"
    margin: float = 25.0
    """Pixels by which the squared box is enlarged on every side."""
    option_scoring: Literal["answer", "option_text"] = "option_text"
    max_box_tokens: int = 64
