"""A trained model as a checkpoint that loads like any other: the hub's layout, and how it answers."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dualfocus_eval import __version__
from dualfocus_eval.recipe import Recipe

__all__ = ["export"]


def export(recipe: Recipe, model: Any, processor: Any, target: Path, log: list[dict[str, Any]]) -> Path:
    """The final weights in bfloat16 with processor, chat template, ``dualfocus.json`` and the stages' losses."""
    model.to(torch.bfloat16)
    for config in (model.config.text_config, model.config.vision_config):
        config.dtype = torch.bfloat16
    model.save_pretrained(target)
    processor.save_pretrained(target)
    _to_hub_layout(target / "model.safetensors")
    settings = {"inference": dict(recipe.inference), "provenance": _provenance(recipe, log)}
    (target / "dualfocus.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (target / "training.json").write_text(json.dumps(log) + "\n", encoding="utf-8")
    return target


def _to_hub_layout(path: Path) -> None:
    """Name the vision encoder's weights as the hub's llava-hf checkpoints and vLLM do; transformers reads both."""
    weights = load_file(path)
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        if name.startswith("vision_tower.")
        else name: value
        for name, value in weights.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


def _provenance(recipe: Recipe, log: list[dict[str, Any]]) -> dict[str, Any]:
    import transformers

    return {
        "recipe": recipe.path.name,
        "dualfocus_eval": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "stages": [{key: entry[key] for key in ("stage", "steps", "samples", "seconds")} for entry in log],
    }
