"""What a user decides about the in-process engine. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.validation import CLOSED, OneOf

__all__ = ["IMAGE_OPTIONS", "EngineConfig"]

IMAGE_OPTIONS = ("image_aspect", "min_pixels", "max_pixels")
"""Options that change what the processor makes of an image; a recipe or a checkpoint may set them too."""

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
DtypeName = Annotated[str, OneOf(lambda: DTYPES)]


@dataclass(frozen=True, config=CLOSED)
class EngineConfig:
    """One checkpoint and how to run it.

    Raises pydantic's ``ValidationError`` (a ValueError) for wrong values; nothing is loaded to find out.
    """

    pretrained: str
    """A local checkpoint folder or a hub id."""
    revision: str | None = None
    """A branch, tag or commit of the hub repository."""
    peft: str | None = None
    """A PEFT adapter (folder or hub id) to load on top."""
    device: str = "auto"
    """``auto`` (cuda, then mps, then cpu), ``cpu``, ``cuda``, ``cuda:1``, ``mps``."""
    device_map: str | None = None
    """Accelerate's placement for models over several devices, e.g. ``auto``; excludes ``device``."""
    dtype: DtypeName = "auto"
    """``auto`` is the checkpoint's own dtype, but float32 on CPU."""
    attn_implementation: str | None = None
    """Transformers' attention kernel, e.g. ``sdpa`` or ``flash_attention_2``; by default transformers chooses."""
    max_conversations: Annotated[int, Field(ge=1)] = 16
    """Most conversations in one forward pass."""
    prefix_cache_gib: Annotated[float, Field(ge=0)] | None = None
    """Budget of the key/value prefix cache; 0 turns reuse off. By default 16 times the weights' bytes, at most 2 GiB
    and at most an eighth of the memory that is free when the model is loaded."""
    min_pixels: int | None = None
    """Smallest area to which the processor resizes an image; only for families that have such a limit (Qwen-VL)."""
    max_pixels: int | None = None
    """Largest area, likewise."""
    image_aspect: Literal["checkpoint", "pad"] = "checkpoint"
    """``pad``: LLaVA's own padding to a square with the mean colour instead of the checkpoint's processor."""
    trust_remote_code: bool = False
    """Run the checkpoint's own Python code."""

    @property
    def described(self) -> str:
        """What runs, in a few words."""
        return self.pretrained

    def __post_init__(self) -> None:
        if not self.pretrained:
            raise ValueError("pretrained is empty: name a checkpoint folder or a hub id")
        if self.device_map is not None and self.device != "auto":
            raise ValueError(f"device={self.device!r} and device_map={self.device_map!r} exclude each other; give one")
