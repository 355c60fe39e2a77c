"""Loading a checkpoint, and refusing what cannot be used before or while its weights load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from dualfocus_eval.common.errors import CheckpointError, UserError, first_line
from dualfocus_eval.engines import processors
from dualfocus_eval.engines.adapters import merge_adapter
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.checkpoint_files import (
    check_layers,
    check_weights,
    checkpoint_file,
    is_finite,
    is_weight,
    read_json,
    refuse_missing_folder,
    weight_files,
)
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.identity import checkpoint_name, engine_digest
from dualfocus_eval.families import Family, family_for

__all__ = ["load_checkpoint", "load_generation_settings", "load_parts", "load_processor"]


def load_checkpoint(config: EngineConfig) -> Checkpoint:
    """Load what ``config`` names. Raises ``CheckpointError``, or ``UserError`` for options that do not apply to it."""
    parts = load_parts(config)
    return prepare(*parts, checkpoint_name(config), engine_digest(config), adapted=config.peft is not None)


def load_parts(config: EngineConfig) -> tuple[Any, Any, Family]:
    """The model, its processor and its family; raises as `load_checkpoint` does."""
    _refuse_unusable_folder(Path(config.pretrained), config.pretrained)
    _refuse_without_weights(Path(config.pretrained), config.pretrained)
    model_config, processor, family = _processor_and_family(config)
    model = _load_model(config, quantised=getattr(model_config, "quantization_config", None) is not None)
    if config.peft is not None:
        model = merge_adapter(model, config.peft, family)
    if family.engine == "in_process":
        processors.check_image_tokens(model, processor, family, config.pretrained)
    return model, processor, family


def load_processor(config: EngineConfig) -> tuple[Any, Any, Family]:
    """The model's configuration, its processor and its family, without weights; raises as `load_checkpoint` does."""
    _refuse_unusable_folder(Path(config.pretrained), config.pretrained)
    return _processor_and_family(config)


def load_generation_settings(config: EngineConfig, model_config: Any) -> Any:
    """The checkpoint's own settings of generation, as its model would have them; raises as `load_checkpoint` does."""
    name = config.pretrained
    try:
        if checkpoint_file(name, "generation_config.json", config.revision) is None:
            return GenerationConfig.from_model_config(model_config)
        return GenerationConfig.from_pretrained(name, revision=config.revision)
    except Exception as error:  # wrong types and values provoke errors of every kind
        raise CheckpointError(f"{name}: generation_config.json cannot be used: {first_line(error)}") from error


def _processor_and_family(config: EngineConfig) -> tuple[Any, Any, Family]:
    name = config.pretrained
    model_config = _load_config(config)
    family = family_for(model_config.model_type, name)
    _refuse_foreign_options(config, family)
    if model_config.is_encoder_decoder:
        raise CheckpointError(
            f"{name}: model_type {model_config.model_type!r} is an encoder-decoder, which cannot go on with a "
            "conversation; choose a checkpoint of a decoder-only model"
        )
    return model_config, processors.read_processor(config, model_config, family), family


def _refuse_unusable_folder(folder: Path, name: str) -> None:
    """Say what a local checkpoint folder lacks; a name that is no folder is left to the hub client."""
    refuse_missing_folder(name)
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(f"{name}: an adapter, not a checkpoint; pass peft={name} and its base as pretrained")
        raise CheckpointError(
            f"{name}: config.json is missing; a checkpoint folder as save_pretrained writes it is needed"
        )
    if '"mm_projector_type"' in (folder / "config.json").read_text(encoding="utf-8", errors="replace"):
        raise CheckpointError(
            f"{name}: a checkpoint in the original LLaVA layout; run `dualfocus convert llava {name} OUT` and use OUT"
        )


def _refuse_without_weights(folder: Path, name: str) -> None:
    if folder.is_dir() and not any(folder.glob("*.safetensors*")):  # weights or their index
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{name}: the weights are a pickle ({pickles[0]}), which can run code when loaded; convert them with "
                "save_pretrained to model.safetensors on a machine that you trust them on"
            )
        raise CheckpointError(f"{name}: no weights; model.safetensors is missing")


def _refuse_foreign_options(config: EngineConfig, family: Family) -> None:
    if (config.min_pixels or config.max_pixels) and not family.pixel_limits:
        fault = "its input size is fixed" if family.engine == "in_process" else "set its processor's own limits"
        raise UserError(f"min_pixels and max_pixels do not apply to {family.model_type}: {fault}")
    if config.image_aspect == "pad" and not family.pads_to_square:
        raise UserError(f"image_aspect=pad does not apply to {family.model_type}; leave it out")


def _load_config(config: EngineConfig) -> Any:
    name = config.pretrained
    file = checkpoint_file(name, "config.json", config.revision)
    if file is None:
        raise CheckpointError(f"{name}: config.json is missing; check the name, the revision and the network")
    content = read_json(file)
    check_layers(content, file)
    try:
        model_config = AutoConfig.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # wrong types and values provoke errors of every kind
        raise CheckpointError(f"{name}: no usable config.json: {first_line(error)}") from error
    dtype = getattr(model_config, "dtype", None)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise CheckpointError(f"{file}: dtype is {content.get('dtype', dtype)!r}; a floating-point type is needed")
    if checkpoint_file(name, "adapter_config.json", config.revision) is not None:
        raise CheckpointError(
            f"{name}: an adapter (adapter_config.json) lies beside the model's own weights, and transformers would "
            "apply it unchecked; move it into a folder of its own, and name that with peft=FOLDER to use it"
        )
    generation = checkpoint_file(name, "generation_config.json", config.revision)
    if generation is not None:
        read_json(generation)  # transformers takes other settings where it cannot read these
    return model_config


def _load_model(config: EngineConfig, quantised: bool) -> Any:
    name = config.pretrained
    check_weights(weight_files(name, config.revision), quantised=quantised)
    device = _device(config.device) if config.device_map is None else None
    dtype: Any = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and device is not None and device.type == "cpu":
        dtype = torch.float32
    placement = {"device_map": config.device_map} if config.device_map is not None else {}
    if config.attn_implementation is not None:
        placement["attn_implementation"] = config.attn_implementation
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            name,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the loading info, by name, and refused below
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **placement,
        )
    except torch.OutOfMemoryError:
        raise UserError(f"{name}: the weights do not fit into memory; try dtype=bfloat16 or device_map=auto") from None
    except Exception as error:  # sizes in config.json that contradict each other provoke errors of every kind
        raise CheckpointError(
            f"{name}: the model of config.json cannot be built and loaded: {first_line(error)}"
        ) from error
    _refuse_partial(model, info, name)
    _refuse_tied(model, config)
    if device is not None:
        model = model.to(device)
    if not quantised:
        _refuse_not_finite(model, name)
    return model


def _refuse_partial(model: Any, info: dict[str, Any], name: str) -> None:
    """Every weight of the architecture is in the checkpoint with its shape, and every one of the checkpoint is used."""
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        key, found, wanted = mismatched[0]
        raise CheckpointError(
            f"{name}: {len(mismatched)} of the weights have another shape than config.json gives them, {key} first: "
            f"{tuple(found)} in place of {tuple(wanted)}; take both from the same release"
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} of the architecture's weights are not in the checkpoint, {missing[0]} first; "
            "it is incomplete or of another architecture"
        )
    unexpected = sorted(filter(is_weight, info["unexpected_keys"]))
    if unexpected:
        raise CheckpointError(
            f"{name}: {len(unexpected)} of the weights are ones that the architecture of config.json does not take, "
            f"{unexpected[0]} first; take config.json and weights from the same release"
        )


def _refuse_tied(model: Any, config: EngineConfig) -> None:
    """Embedding and head that differ in the weights are two, unless config.json itself says that they are one.

    Where it says nothing, as Mistral Small 3.1's does, the default of the model's class is no reason to refuse them.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False)
    if not tied or head is None or head.weight is embedding.weight:
        return
    file = checkpoint_file(config.pretrained, "config.json", config.revision)
    content = read_json(file) if file is not None else {}
    if any(part.get("tie_word_embeddings") for part in (content, content.get("text_config") or {})):
        raise CheckpointError(
            f"{config.pretrained}: config.json says tie_word_embeddings, but lm_head.weight differs from the embedding "
            "in the weights; set tie_word_embeddings to what the checkpoint was trained with"
        )
    model.config.tie_word_embeddings = False


def _refuse_not_finite(model: Any, name: str) -> None:
    for key, weight in model.named_parameters():
        # What accelerate has put elsewhere is on the meta device; it shows in the logits.
        if weight.device.type != "meta" and not is_finite(weight):
            raise CheckpointError(
                f"{name}: {key} has NaN or infinite numbers in {weight.dtype}; if the file's own are finite, try "
                "dtype=bfloat16 or dtype=float32, else the checkpoint is damaged or its training diverged"
            )


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
