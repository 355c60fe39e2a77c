"""What a checkpoint folder in the original LLaVA layout says of itself. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.engines.checkpoint_files import check_layers, read_json

__all__ = ["SourceCheckpoint", "WeightFiles", "claimable", "find_weights", "read_source"]

_ARCHITECTURES = ("LlavaLlamaForCausalLM", "Share4VLlamaForCausalLM")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "non_lora_trainables.bin")


@dataclass(frozen=True)
class WeightFiles:
    """A checkpoint's weight files in order, and which file its index, if there is one, puts each key into."""

    files: tuple[Path, ...]
    index: Mapping[str, str]


@dataclass(frozen=True)
class SourceCheckpoint:
    """A folder whose config.json describes a LLaVA-1.5 architecture, and whose weight files are all there."""

    folder: Path
    config: Mapping[str, Any]
    weights: WeightFiles

    @property
    def vision_tower(self) -> str:
        """The vision tower's name: a hub id, or a path on the machine where the checkpoint was trained."""
        return str(self.config["mm_vision_tower"])


def read_source(folder: Path) -> SourceCheckpoint:
    """Read and check ``folder``. Raises ``CheckpointError``: what is missing or unsupported, and the way out."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; download the checkpoint and give the folder it lies in")
    weights = find_weights(folder)
    if weights is None:
        _refuse_parts(folder)
        raise CheckpointError(f"{folder}: no weights; one of these is needed: {', '.join((*_INDEXES, *_SINGLE))}")
    config = read_json(folder / "config.json")
    _check_config(folder, config)
    return SourceCheckpoint(folder, config, weights)


def find_weights(folder: Path) -> WeightFiles | None:
    """The weight files of ``folder``, safetensors before .bin, or None. Raises ``CheckpointError`` for missing ones."""
    for name, single in zip(_INDEXES, _SINGLE, strict=True):
        if (folder / name).is_file():
            index = read_json(folder / name).get("weight_map")
            if (
                not isinstance(index, dict)
                or not index
                or not all(Path(str(file)).name == file for file in index.values())
            ):
                raise CheckpointError(f"{folder / name}: weight_map must give a file of this folder for every weight")
            names = sorted(set(index.values()))
            lacking = [file for file in names if not (folder / file).is_file()]
            if lacking:
                raise CheckpointError(
                    f"{folder}: {len(lacking)} of {len(names)} weight files are missing: {', '.join(lacking)}; "
                    "download them"
                )
            return WeightFiles(tuple(folder / file for file in names), index)
        if (folder / single).is_file():
            return WeightFiles((folder / single,), {})
    return None


def claimable(out: Path) -> None:
    """Raises ``UserError`` unless ``out`` is free: absent, or an empty folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder to write")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name another folder, or delete it first")


def _refuse_parts(folder: Path) -> None:
    """Name a folder that only holds part of a model."""
    adapters = [name for name in _ADAPTERS if (folder / name).is_file()]
    if adapters:
        raise CheckpointError(
            f"{folder}: a LoRA checkpoint ({', '.join(adapters)}) without its base model; merge it into the base that "
            "it was trained from, with the LLaVA repository's scripts/merge_lora_weights.py, and convert the result"
        )
    if (folder / "mm_projector.bin").is_file():
        raise CheckpointError(
            f"{folder}: only a projector (mm_projector.bin), the state before instruction tuning; "
            "give the folder of the finished model"
        )


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse by name what differs from LLaVA-1.5 in a way that would change the answers."""
    where = f"{folder / 'config.json'}"
    architectures = config.get("architectures") or ["none"]
    if not isinstance(architectures, list):
        raise CheckpointError(f"{where}: architectures is {architectures!r}; a list of names is needed")
    if architectures[0] == "LlavaForConditionalGeneration":
        raise CheckpointError(f"{where}: the checkpoint is in the hub's layout already; use it as pretrained={folder}")
    if architectures[0] not in _ARCHITECTURES:
        raise CheckpointError(
            f"{where}: architecture {architectures[0]} cannot be converted; only: {', '.join(_ARCHITECTURES)}"
        )
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    for name in (*sizes, "mm_vision_tower", "mm_hidden_size", "mm_vision_select_layer"):
        if config.get(name) is None:
            raise CheckpointError(f"{where}: {name} is missing; get config.json from the checkpoint's release")
    for name in (*sizes, "mm_hidden_size"):
        if type(config[name]) is not int or config[name] < 1:
            raise CheckpointError(f"{where}: {name} is {config[name]!r}; a whole number above 0 is needed")
    if type(config["mm_vision_select_layer"]) is not int:
        raise CheckpointError(
            f"{where}: mm_vision_select_layer is {config['mm_vision_select_layer']!r}; a number is needed"
        )
    check_layers(config, folder / "config.json")
    if config.get("quantization_config") is not None:
        raise CheckpointError(f"{where}: the weights are quantised; convert the checkpoint that they were made from")
    for name, default, allowed in (
        ("mm_projector_type", "linear", ("mlp2x_gelu",)),
        ("mm_vision_select_feature", "patch", ("patch",)),
        ("mm_use_im_start_end", False, (False,)),
        ("mm_patch_merge_type", "flat", ("flat",)),
        ("tie_word_embeddings", False, (False,)),
    ):
        value = config.get(name, default)
        if value not in allowed:
            raise CheckpointError(f"{where}: {name} is {value!r}, but only {allowed[0]!r} can be converted")
    aspect = config.get("image_aspect_ratio")
    if aspect != "pad":
        raise CheckpointError(
            f"{where}: image_aspect_ratio is {aspect!r}, but only 'pad' can be converted; where the checkpoint is "
            "known to be trained on padded images, write that into config.json"
        )
