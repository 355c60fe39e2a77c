"""From a checkpoint in the original LLaVA layout to the hub's, file by file."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from dualfocus_eval import __version__
from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.files import sha256_of
from dualfocus_eval.convert.hub_layout import (
    SPECIAL_TOKENS,
    TOWER,
    VOCABULARY,
    Target,
    llava_config,
    matched,
    padded_rows,
    targets,
    tower_config,
)
from dualfocus_eval.convert.processor import build_processor
from dualfocus_eval.convert.source import SourceCheckpoint, find_weights
from dualfocus_eval.convert.tokenizer import build_tokenizer
from dualfocus_eval.convert.weights import Entry, Weights, inventory, open_weights
from dualfocus_eval.engines.checkpoint_files import is_finite, is_weight
from dualfocus_eval.recipe import Recipe

__all__ = ["convert"]

Shard = list[tuple[Entry, Target]]
"""Weights of one file that are written into one file."""

_FILE_BYTES = 5 << 30
"""A larger weight file is split, as the hub's are."""
_ROWS_AT_ONCE = 1024
_NOT_VISION = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
"""What a whole CLIP has beside the vision tower."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """All that is to be written, checked and unread."""

    pairs: list[tuple[Entry, Target]]
    files: tuple[Path, ...]
    """What the weights are read from."""
    config: Any
    processor: Any
    rows: int
    """Of the embeddings, new tokens and padding included."""


def convert(source: SourceCheckpoint, out: Path, tower_folder: Path | None, recipe: Recipe) -> None:
    """Write ``source`` to ``out`` in the hub's layout, with ``recipe``'s inference settings.

    Memory stays within about one weight file. All is checked before anything is written, and ``out`` appears when all
    is there. Raises ``CheckpointError`` for a source that cannot be converted, ``UserError`` for a full disk.
    """
    plan = _plan(source, tower_folder)
    work = _begin(out, sum(entry.bytes for entry, _ in plan.pairs))
    try:
        _write_weights(plan, work)
        plan.processor.save_pretrained(work)
        ids = {f"{name}_token_id": getattr(plan.config.text_config, f"{name}_token_id") for name in SPECIAL_TOKENS}
        GenerationConfig(**ids).save_pretrained(work)
        settings = {
            "inference": dict(recipe.taught),
            "provenance": _provenance(source, recipe, plan.files, tower_folder),
        }
        (work / "dualfocus.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        plan.config.save_pretrained(work)
        work.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise UserError(f"{out}: cannot be written: {error}") from error
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _plan(source: SourceCheckpoint, tower_folder: Path | None) -> _Plan:
    entries, files = inventory(source.weights.files, is_weight), source.weights.files
    inside = any(key.startswith(TOWER) for key in entries)
    tower = tower_config(source, inside, tower_folder)
    if tower_folder is not None and not inside:
        tower_entries, tower_files = _tower_weights(tower_folder)
        entries, files = entries | tower_entries, (*files, *tower_files)
    vocabulary = source.config["vocab_size"]
    tokenizer = build_tokenizer(source)
    rows = padded_rows(vocabulary, len(tokenizer))
    embedding = entries.get(VOCABULARY[0])  # what is missing is named below
    config = llava_config(source, tower, tokenizer, rows, embedding.dtype if embedding else torch.float16)
    pairs = matched(targets(config, vocabulary), entries, source, None if inside else tower_folder)
    return _Plan(pairs, files, config, build_processor(tokenizer, tower), rows)


def _tower_weights(folder: Path) -> tuple[dict[str, Entry], tuple[Path, ...]]:
    """The vision tower's weights under their keys in the original layout, and the files that they are in."""
    weights = find_weights(folder)
    if weights is None:
        raise CheckpointError(f"{folder}: no weights; model.safetensors or pytorch_model.bin of the tower is needed")
    found = inventory(weights.files, lambda key: is_weight(key) and not key.startswith(_NOT_VISION))
    return {TOWER + key.removeprefix("vision_model."): entry for key, entry in found.items()}, weights.files


def _begin(out: Path, size: int) -> Path:
    """An empty folder to work in, on the disk of ``out``; a killed run's leavings are cleared."""
    work = out.absolute().with_name(f"{out.absolute().name}.unfinished-conversion")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        free = shutil.disk_usage(work).free
        if out.is_dir():
            out.rmdir()  # it is empty; a mount point, which cannot be replaced, shows here and not after hours
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error}") from error
    if free < size:
        work.rmdir()
        raise UserError(f"{out}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; choose another disk")
    return work


def _parts(pairs: Sequence[tuple[Entry, Target]]) -> list[Shard]:
    """One part per weight file, and more where it is larger than ``_FILE_BYTES``."""
    parts: list[Shard] = []
    by_file: dict[Path, Shard] = {}
    for pair in pairs:
        by_file.setdefault(pair[0].file, []).append(pair)
    for part in by_file.values():
        size = 0
        for number, pair in enumerate(part):
            if number == 0 or size + pair[0].bytes > _FILE_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(pair)
            size += pair[0].bytes
    return parts


def _write_weights(plan: _Plan, folder: Path) -> None:
    parts = _parts(plan.pairs)
    index: dict[str, str] = {}
    size = 0
    for number, part in enumerate(parts, start=1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        with open_weights(part[0][0].file) as weights:
            converted = dict(_converted(part, weights, plan.config.dtype, plan.rows))
            save_file(converted, folder / name, metadata={"format": "pt"})
            size += sum(tensor.nbytes for tensor in converted.values())
            index |= dict.fromkeys(converted, name)
            del converted
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name in set(index.values()):
        shutil.copymode(path, folder / name)  # safetensors leaves its files to their owner alone


def _converted(part: Shard, weights: Weights, dtype: torch.dtype, rows: int) -> Iterator[tuple[str, Tensor]]:
    for entry, target in part:
        value = weights.tensor(entry.key).to(dtype).contiguous()
        if not is_finite(value):
            raise CheckpointError(
                f"{entry.file}: {entry.key} has NaN or infinite numbers in {dtype}; the file is damaged, or its "
                "training diverged"
            )
        yield target.name, _with_rows(value, rows) if entry.key in VOCABULARY else value


def _with_rows(weight: Tensor, rows: int) -> Tensor:
    """``weight`` (tokens, width) with its mean row for every new token, to (``rows``, width).

    The hub's conversion draws them from a narrow normal distribution around the mean. The mean itself is the same every
    time, and in the output layer its logit is the mean of all, so that greedy decoding never takes a new token.
    """
    tokens, width = weight.shape
    if tokens == rows:
        return weight
    total = torch.zeros(width, dtype=torch.float64)
    for start in range(0, tokens, _ROWS_AT_ONCE):  # the whole in double precision could exceed a weight file
        total += weight[start : start + _ROWS_AT_ONCE].sum(dim=0, dtype=torch.float64)
    padded = weight.new_empty(rows, width)
    padded[:tokens] = weight
    padded[tokens:] = (total / tokens).to(weight.dtype)
    return padded


def _provenance(
    source: SourceCheckpoint, recipe: Recipe, files: Sequence[Path], tower_folder: Path | None
) -> dict[str, Any]:
    """What was converted, by what: names without places, and the digests under which the hub lists the files."""
    return {
        "converted_from": source.folder.resolve().name,
        "architecture": source.config["architectures"][0],
        "mm_vision_tower": source.vision_tower,
        "vision_tower_folder": tower_folder.resolve().name if tower_folder else None,
        "sha256": {f"{file.parent.resolve().name}/{file.name}": sha256_of(file) for file in files},
        "recipe": recipe.path.name,
        "dualfocus_eval": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
