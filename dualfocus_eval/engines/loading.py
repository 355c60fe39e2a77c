"""Loading a checkpoint, and refusing what cannot be used before or while its weights load."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.identity import checkpoint_name, digest_in_memory, engine_digest
from dualfocus_eval.errors import CheckpointError, UserError
from dualfocus_eval.families import Family, family_for

__all__ = ["Checkpoint", "load_checkpoint", "load_parts", "load_processor", "prepare"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with all that the engine needs to know about it."""

    model: Any
    processor: Any
    family: Family
    generation_config: Any
    """The checkpoint's own, for greedy decoding."""
    end_ids: frozenset[int]
    default_end_id: int
    layers: int
    max_positions: int
    reusable: bool
    """Whether the key/value states of a prompt's beginning may serve another prompt."""
    name: str
    """What to call it; no part of its identity."""
    digest: str
    """`identity.engine_digest`: of everything in it that can change an answer."""


def load_checkpoint(config: EngineConfig) -> Checkpoint:
    """Load what ``config`` names. Raises ``CheckpointError``, or ``UserError`` for options that do not apply to it."""
    parts = load_parts(config)
    return prepare(*parts, checkpoint_name(config), engine_digest(config))


def load_parts(config: EngineConfig) -> tuple[Any, Any, Family]:
    """The model, its processor and its family; raises as `load_checkpoint` does."""
    _, processor, family = load_processor(config)
    return _load_model(config, _shared(config)), processor, family


def load_processor(config: EngineConfig) -> tuple[Any, Any, Family]:
    """The model's configuration, its processor and its family, without weights; raises as `load_checkpoint` does."""
    name = config.pretrained
    _refuse_unusable_folder(Path(name), name)
    shared = _shared(config)
    try:
        model_config = AutoConfig.from_pretrained(name, **shared)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name}: no usable config.json: {_first_line(error)}") from error
    family = family_for(model_config.model_type, name)
    _refuse_foreign_options(config, family)
    return model_config, _load_processor(config, shared), family


def _shared(config: EngineConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def prepare(model: Any, processor: Any, family: Family, name: str, digest: str | None = None) -> Checkpoint:
    """A ``Checkpoint`` of a model and processor in memory.

    Without the ``digest`` of the files that they were loaded from, all the weights are hashed.
    """
    model.eval().requires_grad_(False)
    text_config = model.config.get_text_config()
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        raise CheckpointError(f"{name}: its decoder keeps states other than keys and values, which is not supported")
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False
    ends = settings.eos_token_id if settings.eos_token_id is not None else processor.tokenizer.eos_token_id
    if ends is None:
        raise CheckpointError(f"{name}: neither generation_config.json nor the tokenizer names an end token")
    end_ids = [ends] if isinstance(ends, int) else list(ends)
    settings.eos_token_id = end_ids
    model._prepare_special_tokens(settings, kwargs_has_attention_mask=True, device=model.device)
    return Checkpoint(
        model=model,
        processor=processor,
        family=family,
        generation_config=settings,
        end_ids=frozenset(end_ids),
        default_end_id=end_ids[0],
        layers=text_config.num_hidden_layers,
        max_positions=text_config.max_position_embeddings,
        reusable=family.prefix_reuse and kinds == {DynamicLayer},
        name=name,
        digest=digest or digest_in_memory(model, processor),
    )


def _refuse_unusable_folder(folder: Path, name: str) -> None:
    """Say what a local checkpoint folder lacks; a name that is no folder is left to the hub client."""
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise CheckpointError(f"{name}: no such folder; give a checkpoint folder or a hub id like owner/name")
        return
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{name}: config.json is missing; a checkpoint folder as save_pretrained writes it is needed"
        )
    if '"mm_projector_type"' in (folder / "config.json").read_text(encoding="utf-8", errors="replace"):
        raise CheckpointError(
            f"{name}: a checkpoint in the original LLaVA layout; run `dualfocus convert llava {name} OUT` and use OUT"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index}: not a readable index: {_first_line(error)}") from error
        lacking = sorted(shard for shard in shards if not (folder / shard).is_file())
        if lacking:
            raise CheckpointError(
                f"{name}: {len(lacking)} of {len(shards)} weight files are missing: {lacking[0]}, ..."
            )
    elif not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{name}: the weights are a pickle ({pickles[0]}), which can run code when loaded; convert them with "
                "save_pretrained to model.safetensors on a machine that you trust them on"
            )
        raise CheckpointError(f"{name}: no weights; model.safetensors is missing")


def _refuse_foreign_options(config: EngineConfig, family: Family) -> None:
    if (config.min_pixels or config.max_pixels) and not family.pixel_limits:
        raise UserError(f"min_pixels and max_pixels do not apply to {family.model_type}: its input size is fixed")
    if config.image_aspect == "pad" and not family.pads_to_square:
        raise UserError(f"image_aspect=pad does not apply to {family.model_type}; leave it out")


def _load_processor(config: EngineConfig, shared: dict[str, Any]) -> Any:
    name = config.pretrained
    try:
        processor = AutoProcessor.from_pretrained(name, **shared)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"{name}: the processor cannot be loaded: {_first_line(error)}") from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{name}: its processor files are incomplete (an image processor and a tokenizer are needed)"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise CheckpointError(f"{name}: no chat template; add chat_template.jinja to the checkpoint")
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    if config.min_pixels or config.max_pixels:
        size = dict(processor.image_processor.size)
        size["shortest_edge"] = config.min_pixels or size["shortest_edge"]
        size["longest_edge"] = config.max_pixels or size["longest_edge"]
        if size["shortest_edge"] > size["longest_edge"]:
            raise UserError(f"min_pixels={size['shortest_edge']} exceeds max_pixels={size['longest_edge']}")
        processor.image_processor.size = size
    if config.image_aspect == "pad":
        processor.image_processor = _padding_processor(processor.image_processor)
    return processor


def _padding_processor(original: Any) -> Any:
    """LLaVA-1.5's own preprocessing, pad to a square and resize, at the size of the ``original`` image processor."""
    from transformers import LlavaImageProcessor

    crop = original.crop_size if original.do_center_crop else original.size
    side = crop["height"]
    return LlavaImageProcessor(
        do_pad=True,
        do_center_crop=False,
        size={"height": side, "width": side},
        image_mean=original.image_mean,
        image_std=original.image_std,
        resample=original.resample,
    )


def _load_model(config: EngineConfig, shared: dict[str, Any]) -> Any:
    name = config.pretrained
    device = _device(config.device) if config.device_map is None else None
    dtype: Any = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and device is not None and device.type == "cpu":
        dtype = torch.float32
    placement = {"device_map": config.device_map} if config.device_map is not None else {}
    if config.attn_implementation is not None:
        placement["attn_implementation"] = config.attn_implementation
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **shared, **placement
        )
    except torch.OutOfMemoryError:
        raise UserError(f"{name}: the weights do not fit into memory; try dtype=bfloat16 or device_map=auto") from None
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CheckpointError(
            f"{name}: the weights cannot be loaded (only safetensors are accepted): {_first_line(error)}"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} of the architecture's weights are not in the checkpoint, {missing[0]} among them; "
            "it is incomplete or of another architecture"
        )
    if device is not None:
        model = model.to(device)
    return _with_adapter(model, config.peft) if config.peft is not None else model


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    folder = Path(adapter)
    if folder.is_dir() and not (folder / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{adapter}: adapter_model.safetensors is missing; pickled adapters are refused")
    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{adapter}: the adapter cannot be loaded: {_first_line(error)}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device={name!r} is unknown; allowed: auto, cpu, cuda, cuda:<n>, mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this machine has no CUDA device; use device=cpu")
    return device


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
