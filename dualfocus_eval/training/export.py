"""A trained model as a checkpoint that loads like any other: the hub's layout, and how it answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.finite import refuse_non_finite_weights
from dualfocus_eval.training.manifest import versions

__all__ = ["EXPORTED", "export"]

EXPORTED = torch.bfloat16
"""The precision of a checkpoint's weights."""
_SETTINGS, _LOG = "dualfocus.json", "training.json"


def export(
    recipe: Recipe,
    model: Any,
    processor: Any,
    target: Path,
    log: list[dict[str, Any]],
    dtype: torch.dtype = EXPORTED,
    adapter: Path | None = None,
) -> Path:
    """Write ``model`` in ``dtype`` with processor, chat template, ``dualfocus.json`` and the stages' losses.

    ``adapter`` is a folder of low-rank adapters that ``model`` has merged: a copy with ``dualfocus.json``, for use on
    top of the base, goes into the folder ``adapter`` beside ``target``. ``target`` appears when all of it is written,
    and replaces what was there. Raises `DivergedError` for weights that are NaN or infinite in ``dtype``; then nothing
    is written.
    """
    model.to(dtype)
    refuse_non_finite_weights(model.named_parameters(), f"{target} is not written")
    settings = {"inference": dict(recipe.taught), "provenance": _provenance(recipe, log)}
    if adapter is not None:
        with _Replaced(target.with_name("adapter")) as folder:
            shutil.copytree(adapter, folder, dirs_exist_ok=True)
            _write_json(folder / _SETTINGS, settings)
    with _Replaced(target) as folder:
        for config in (model.config.text_config, model.config.vision_config):
            config.dtype = dtype
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        _to_hub_layout(folder)
        _write_json(folder / _SETTINGS, settings)
        (folder / _LOG).write_text(json.dumps(log) + "\n", encoding="utf-8")
    return target


class _Replaced:
    """A folder to write, which takes its name when the block ends well."""

    def __init__(self, target: Path) -> None:
        self.target, self.work = target, target.with_name(f"{target.name}.unfinished")

    def __enter__(self) -> Path:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        return self.work

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self.target, ignore_errors=True)
            self.work.rename(self.target)


def _to_hub_layout(folder: Path) -> None:
    """Name LLaVA's vision encoder as the hub's llava-hf checkpoints and vLLM do, file by file; transformers reads both.

    The other families' names are the hub's already.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            renamed = {_hub_name(name): weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        save_file(renamed, path, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {_hub_name(name): file for name, file in content["weight_map"].items()}
        _write_json(index, content)


def _hub_name(name: str) -> str:
    prefix, inner = "vision_tower.", "vision_model."
    rest = name.removeprefix(prefix)
    return name if rest == name or rest.startswith(inner) else prefix + inner + rest


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _provenance(recipe: Recipe, log: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "recipe": recipe.path.name,
        "train": dict(recipe.train),
        **versions(),
        "stages": [{key: entry[key] for key in ("stage", "steps", "samples", "seconds")} for entry in log],
    }
