"""A checkpoint's files: where they are, and whether they are whole. Imports nothing heavy, reads no weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import CheckpointError, first_line

__all__ = [
    "check_layers",
    "check_weights",
    "checkpoint_file",
    "is_finite",
    "is_weight",
    "read_json",
    "refuse_missing_folder",
    "weight_files",
]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_BUFFERS = re.compile(r"(^|\.)(rotary\w*\.inv_freq|embeddings\.position_ids)$")
_FLOATS = ("F", "BF")
"""What safetensors' names of floating-point types begin with."""
_MOST_LAYERS = 1000
"""More than any checkpoint has."""


def is_weight(key: str) -> bool:
    """False for what older versions of transformers stored beside the weights and newer ones compute."""
    return _BUFFERS.search(key) is None


def is_finite(weight: Any) -> bool:
    """Whether a tensor has neither NaN nor infinite numbers; makes no copy of it."""
    # The sum is the fastest pass over a weight: with one CPU thread and the file in memory, 9 to 14 GB/s, a tenth of
    # the time of loading bfloat16 as float32 (from a disk or with more threads it is less, on a GPU nothing). It can
    # overflow where every number is finite; then minimum and maximum, through which NaN passes, decide.
    weight = weight.detach()
    if not weight.numel() or math.isfinite(float(weight.sum())):
        return True
    return all(math.isfinite(float(bound)) for bound in weight.aminmax())


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``. Raises ``CheckpointError`` where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def check_layers(config: Mapping[str, Any], file: Path) -> None:
    """Raise ``CheckpointError`` for numbers of layers in ``config`` that a model cannot have.

    Transformers makes lists and modules of that length before anything is compared with the weights.
    """
    for part in (config, config.get("text_config"), config.get("vision_config")):
        for key in ("num_hidden_layers", "depth"):
            layers = part.get(key, 1) if isinstance(part, dict) else 1
            if type(layers) is not int or not 1 <= layers <= _MOST_LAYERS:
                raise CheckpointError(f"{file}: {key} is {str(layers)[:80]}; a number of layers is needed")


def refuse_missing_folder(name: str) -> None:
    """Raise ``CheckpointError`` where ``name`` can only be a folder and there is none."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise CheckpointError(f"{name}: no such folder; give a checkpoint folder or a hub id like owner/name")


def checkpoint_file(checkpoint: str, name: str, revision: str | None = None) -> Path | None:
    """File ``name`` of a checkpoint folder or hub repository, or None when it has none.

    A hub's file is downloaded, or taken from the cache when the hub cannot be reached.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint) / name if (Path(checkpoint) / name).is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(
            checkpoint,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint}: {name} cannot be downloaded: {first_line(error)}") from error
    return Path(found) if found else None


def weight_files(checkpoint: str, revision: str | None = None) -> list[Path]:
    """The safetensors files of a checkpoint, those that its index names where it has one.

    Raises ``CheckpointError`` for a missing file, an unusable index, and one that names anything but safetensors files
    of its own folder.
    """
    single = checkpoint_file(checkpoint, _SINGLE, revision)
    if single is not None:
        return [single]
    index = checkpoint_file(checkpoint, _INDEX, revision)
    if index is None:
        raise CheckpointError(f"{checkpoint}: no weights; {_SINGLE} is missing")
    names = _indexed_files(index)
    found = {name: checkpoint_file(checkpoint, name, revision) for name in names}
    lacking = [name for name, path in found.items() if path is None]
    if lacking:
        raise CheckpointError(
            f"{checkpoint}: {len(lacking)} of {len(names)} weight files are missing, {lacking[0]} first; download them"
        )
    return [path for path in found.values() if path is not None]


def _indexed_files(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map must name the file of every weight; download the index again")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: weight_map names {name!r}; only safetensors files of the same folder are loaded"
            )
    return sorted(set(weight_map.values()))


def check_weights(files: Sequence[Path], *, quantised: bool = False) -> None:
    """Raise ``CheckpointError`` unless every file is whole, no weight is there twice, and all are floating-point.

    A ``quantised`` checkpoint has weights of other types too. What `is_weight` rules out may be of any type.
    """
    places: dict[str, Path] = {}
    for file in files:
        kinds = _types(file)
        if not kinds:
            raise CheckpointError(f"{file}: holds no weights; download it again")
        for key, kind in kinds.items():
            if key in places:
                raise CheckpointError(f"{file}: {key} is also in {places[key].name}; remove the file that is left over")
            places[key] = file
            if is_weight(key) and not kind.startswith(_FLOATS) and not quantised:
                raise CheckpointError(
                    f"{file}: {key} is of type {kind}, but weights are floating-point; get the checkpoint as it was "
                    "trained, or one whose config.json says how it was quantised"
                )


def _types(file: Path) -> dict[str, str]:
    """The type of every tensor in ``file`` as safetensors calls it: F32, BF16, I64, ..."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            return {key: str(content.get_slice(key).get_dtype()) for key in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: cut off or damaged ({first_line(error)}); download or copy it again") from error
