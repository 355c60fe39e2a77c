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

__all__ = ["claim", "data_record", "note_start", "versions", "write_manifest"]

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "lmms-eval")
_HOW = ("micro_batch_size", "gradient_checkpointing", "evaluate", "save_every")
"""Settings of a stage that say how it is trained, not what comes out."""
_SETTINGS, _STARTS = "settings.json", "starts.json"


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


def claim(folder: Path, recipe: Recipe, plan: TuningPlan, stage: TuningStage, data: Sequence[Any]) -> None:
    """Note what decides the stage's weights in its folder. Raises ``UserError`` where something else was noted there.

    ``data`` is the stage's `data_record`. What only says how the work is done may change when a run goes on.
    """
    path = folder / _SETTINGS
    settings: dict[str, Any] = {
        "base": plan.base,
        "seed": plan.seed,
        "image_aspect": recipe.inference.get("image_aspect"),
        **{key: value for key, value in asdict(stage).items() if key not in _HOW},
        "data": data,
    }
    text = json.dumps(settings, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        begun = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(text)
        changed = [key for key in now.keys() | begun.keys() if now.get(key) != begun.get(key)]
        raise UserError(
            f"{folder} holds stage {stage.name} under other settings or data ({', '.join(sorted(changed))}): delete "
            "it, or choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def note_start(folder: Path, processes: int) -> None:
    """Add to the stage's folder with what it is trained from now on, unless the same is there already."""
    path = folder / _STARTS
    starts, start = _starts(folder), {"processes": processes, "versions": versions(), "commit": _commit()}
    if start not in starts:
        path.write_text(json.dumps([*starts, start], indent=2) + "\n", encoding="utf-8")


def write_manifest(out: Path, recipe: Recipe, plan: TuningPlan, folders: Sequence[Path]) -> None:
    """``manifest.json``: the recipe as it was read, and every stage's data and what it was trained with."""
    content = {
        "recipe": recipe.path.name,
        "inference": dict(recipe.inference),
        "train": asdict(plan),
        "stages": [
            {
                "stage": stage.name,
                "data": json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))["data"],
                "starts": _starts(folder),
            }
            for stage, folder in zip(plan.stages, folders, strict=True)
        ],
    }
    (out / "manifest.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _starts(folder: Path) -> list[dict[str, Any]]:
    path = folder / _STARTS
    starts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return starts


def _commit() -> str | None:
    """Of the checkout that this code is run from, marked where it has changes; None for an installed package."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package may lie in a repository of the user's, which says nothing about it.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, timeout=60, check=True)
        done = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
