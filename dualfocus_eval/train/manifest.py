"""What a run was made of, written into its folder before it starts."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualfocus_eval import __version__
from dualfocus_eval.errors import UserError
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.train.samples import Samples
from dualfocus_eval.train.tuning import Source, TuningPlan, TuningStage

__all__ = ["claim", "data_record", "versions", "write_manifest"]

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "lmms-eval")


def versions() -> dict[str, str]:
    """Of this package and of those that decide what training gives."""
    return {
        "dualfocus_eval": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def data_record(sources: Sequence[Source], samples: Sequence[Samples]) -> list[dict[str, Any]]:
    """Files, hashes and counts of a stage's data."""
    return [
        asdict(source) | {"sha256": found.sha256, "samples": len(found), "unusable": len(found.faults)}
        for source, found in zip(sources, samples, strict=True)
    ]


def claim(folder: Path, plan: TuningPlan, stage: TuningStage, data: Sequence[dict[str, Any]]) -> None:
    """Note the stage's settings and data in its folder. Raises ``UserError`` where others have been at work there."""
    path = folder / "settings.json"
    settings = json.dumps({"base": plan.base, "seed": plan.seed, **asdict(stage), "data": data}, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise UserError(
            f"{folder} holds stage {stage.name} under other settings or data: delete it, or choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")


def write_manifest(out: Path, recipe: Recipe, plan: TuningPlan, data: Any, processes: int) -> None:
    """``manifest.json``: the recipe as it was read, data hashes, versions, seed and the commit of this code."""
    content = {
        "recipe": recipe.path.name,
        "inference": dict(recipe.inference),
        "train": asdict(plan),
        "data": data,
        "seed": plan.seed,
        "processes": processes,
        "versions": versions(),
        "commit": _commit(),
    }
    (out / "manifest.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _commit() -> str | None:
    """Of the checkout that this code is run from, marked where it has changes; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
