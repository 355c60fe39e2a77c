"""What is to be served: the checkpoint, its adapter, and what the two passes need of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.engines.checkpoint_files import checkpoint_file, read_json
from dualfocus_eval.engines.config import EngineConfig

__all__ = ["IMAGES", "Adapter", "ModelToServe", "model_to_serve"]

IMAGES = 2
"""Images in the longest prompt: the whole one and its crop."""
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that the server loads beside the checkpoint."""

    name: str
    path: str
    rank: int


@dataclass(frozen=True)
class ModelToServe:
    """A checkpoint and the limits that it is served with."""

    checkpoint: str
    """A folder that every node can read, or a hub id."""
    name: str
    """What requests call it."""
    revision: str | None = None
    dtype: str = "auto"
    """``auto`` where the checkpoint does not say in which it is stored."""
    trust_remote_code: bool = False
    weight_bytes: int | None = None
    """None where it cannot be told without loading the weights."""
    heads: int | None = None
    """Attention heads of the language model, which tensor parallelism divides among GPUs."""
    longest_context: int | None = None
    """Tokens that the checkpoint was made for."""
    pixels: Mapping[str, int] = field(default_factory=dict)
    """``min_pixels`` and ``max_pixels``, where they are set."""
    adapter: Adapter | None = None

    @property
    def answering(self) -> str:
        """The name under which the answering model is asked: the adapter's, where there is one."""
        return self.adapter.name if self.adapter else self.name


def model_to_serve(config: EngineConfig) -> ModelToServe:
    """What ``config`` names. Reads small files only, and of a hub only those that are there.

    Raises ``UserError`` for an adapter that no server can load.
    """
    settings = _json(config.pretrained, "config.json", config.revision)
    text = settings.get("text_config") or settings
    stored = settings.get("dtype") or settings.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    dtype = stored if config.dtype == "auto" else config.dtype
    limits = {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    return ModelToServe(
        checkpoint=config.pretrained,
        name=_last_part(config.pretrained),
        revision=config.revision,
        dtype=dtype if dtype in _DTYPES else "auto",
        trust_remote_code=config.trust_remote_code,
        weight_bytes=_weight_bytes(config.pretrained, config.revision),
        heads=text.get("num_attention_heads"),
        longest_context=text.get("max_position_embeddings"),
        pixels={name: value for name, value in limits.items() if value is not None},
        adapter=_adapter(config.peft) if config.peft else None,
    )


def _adapter(path: str) -> Adapter:
    settings = _json(path, "adapter_config.json")
    if not settings:
        raise UserError(f"peft={path}: adapter_config.json cannot be read; give the adapter's folder or hub id")
    if settings.get("modules_to_save") or settings.get("use_dora"):
        raise UserError(
            f"peft={path}: it changes more than low-rank factors (modules_to_save or use_dora), which servers do not "
            "load: merge it into the checkpoint and serve that"
        )
    ranks = [settings.get("r", 0), *(settings.get("rank_pattern") or {}).values()]
    return Adapter(_last_part(path), path, max(ranks))


def _weight_bytes(checkpoint: str, revision: str | None) -> int | None:
    single = Path(checkpoint) / _SINGLE
    if single.is_file():
        return single.stat().st_size
    size = (_json(checkpoint, _INDEX, revision).get("metadata") or {}).get("total_size")
    return int(size) if size else None


def _json(checkpoint: str, name: str, revision: str | None = None) -> dict[str, Any]:
    """A JSON file of the checkpoint; empty where it is not at hand."""
    try:
        path = checkpoint_file(checkpoint, name, revision)
    except CheckpointError:
        return {}
    return read_json(path) if path is not None else {}


def _last_part(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]
