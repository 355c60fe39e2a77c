"""What a run was made of, written into its folder before it starts."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualfocus_eval import __version__
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.config import IMAGE_OPTIONS
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.notes import read_note, write_note
from dualfocus_eval.training.samples import Samples
from dualfocus_eval.training.tuning import Source, TuningPlan, TuningStage

__all__ = [
    "claim",
    "data_record",
    "note_start",
    "refuse_other_base",
    "tuning_settings",
    "versions",
    "write_manifest",
]

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


def tuning_settings(recipe: Recipe, plan: TuningPlan, stage: TuningStage, data: Sequence[Any]) -> dict[str, Any]:
    """What decides the weights of a stage, beside its base; ``data`` is its `data_record`."""
    return {
        "base": plan.base,
        "seed": plan.seed,
        **{name: recipe.inference.get(name) for name in IMAGE_OPTIONS},
        **{key: value for key, value in asdict(stage).items() if key not in _HOW},
        "data": data,
    }


def claim(folder: Path, stage: str, settings: Mapping[str, Any]) -> None:
    """Note what decides the weights of ``stage`` in its folder.

    Raises ``UserError`` where something else was noted there, or what was noted is damaged.
    """
    path, now = folder / _SETTINGS, json.loads(json.dumps(settings))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_note(path, now)
        return
    begun = read_note(path)
    changed = sorted(key for key in now.keys() | begun.keys() if now.get(key) != begun.get(key))
    if changed:
        raise UserError(
            f"{folder} holds stage {stage} under other settings or data ({', '.join(changed)}): delete it, or choose "
            "another --out"
        )


def refuse_other_base(folder: Path, base: str, digest: str) -> None:
    """Raise ``UserError`` where the stage in ``folder`` was begun from a ``base`` of another ``digest``."""
    if any(start.get("base", digest) != digest for start in _starts(folder)):
        raise UserError(
            f"{base} has changed since the stage in {folder} was begun: put it back, delete {folder}, or choose "
            "another --out"
        )


def note_start(folder: Path, processes: int, base: str) -> None:
    """Add to the stage's folder with what it is trained from now on, unless the same is there already.

    ``base`` is the digest of the checkpoint that the stage starts from.
    """
    starts = _starts(folder)
    start = {"processes": processes, "versions": versions(), "commit": _commit(), "base": base}
    if start not in starts:
        write_note(folder / _STARTS, [*starts, start])


def write_manifest(out: Path, recipe: Recipe, plan: TuningPlan, folders: Sequence[Path]) -> None:
    """``manifest.json``: the recipe as it was read, and every stage's data and what it was trained with."""
    content = {
        "recipe": recipe.path.name,
        "inference": dict(recipe.taught),
        "train": asdict(plan),
        "stages": [
            {
                "stage": stage.name,
                "data": read_note(folder / _SETTINGS, keys=("data",))["data"],
                "starts": _starts(folder),
            }
            for stage, folder in zip(plan.stages, folders, strict=True)
        ],
    }
    write_note(out / "manifest.json", content)


def _starts(folder: Path) -> list[dict[str, Any]]:
    path = folder / _STARTS
    starts: list[dict[str, Any]] = read_note(path, list) if path.exists() else []
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
