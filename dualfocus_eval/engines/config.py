"""What a user decides about the in-process engine. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dualfocus_eval.common.errors import UserError

__all__ = ["EngineConfig"]

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class EngineConfig:
    """One checkpoint and how to run it.

    Raises ``UserError`` for values outside their range; nothing is loaded to find out.
    """

    pretrained: str
    """A local checkpoint folder or a hub id."""
    revision: str | None = None
    peft: str | None = None
    """A PEFT adapter (folder or hub id) to load on top."""
    device: str = "auto"
    """``auto`` (cuda, then mps, then cpu), ``cpu``, ``cuda``, ``cuda:1``, ``mps``."""
    device_map: str | None = None
    """Accelerate's placement for models over several devices, e.g. ``auto``; excludes ``device``."""
    dtype: str = "auto"
    """``auto`` is the checkpoint's own dtype, but float32 on CPU."""
    attn_implementation: str | None = None
    max_conversations: int = 16
    """Most conversations in one forward pass."""
    prefix_cache_gib: float | None = None
    """Budget of the key/value prefix cache; 0 turns reuse off. None: 16 times the weights' bytes, at most 2 GiB and at
    most an eighth of the memory that is free when the model is loaded."""
    min_pixels: int | None = None
    max_pixels: int | None = None
    image_aspect: Literal["checkpoint", "pad"] = "checkpoint"
    """``pad``: LLaVA's own padding to a square with the mean colour instead of the checkpoint's processor."""
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.pretrained:
            raise UserError("pretrained is empty: name a checkpoint folder or a hub id")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype={self.dtype!r} is unknown; allowed: {', '.join(DTYPES)}")
        if self.max_conversations < 1:
            raise UserError(f"max_conversations={self.max_conversations} must be at least 1")
        if self.prefix_cache_gib is not None and self.prefix_cache_gib < 0:
            raise UserError(f"prefix_cache_gib={self.prefix_cache_gib} must not be negative; 0 turns the cache off")
        if self.image_aspect not in ("checkpoint", "pad"):
            raise UserError(f"image_aspect={self.image_aspect!r} is unknown; allowed: checkpoint, pad")
        if self.device_map is not None and self.device != "auto":
            raise UserError(f"device={self.device!r} and device_map={self.device_map!r} exclude each other; give one")
