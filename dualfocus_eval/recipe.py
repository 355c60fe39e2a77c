"""A recipe: one YAML file per model in ``models/``, which says how it answers questions and how it is trained.

Imports nothing heavy, so that a wrong recipe is refused at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml
from pydantic import Field, StrictFloat
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import did_you_mean
from dualfocus_eval.common.old_names import renamed
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.common.validation import CLOSED, partial, validated
from dualfocus_eval.engines.config import IMAGE_OPTIONS, EngineConfig
from dualfocus_eval.method.selection.calibration import is_calibration_file
from dualfocus_eval.method.settings import Settings

__all__ = ["INFERENCE_KEYS", "Recipe", "inference_settings", "load_recipe", "recipe_names"]

_ENGINE_TYPES = get_type_hints(EngineConfig, include_extras=True)
_TYPES = get_type_hints(Settings, include_extras=True) | {name: _ENGINE_TYPES[name] for name in IMAGE_OPTIONS}
_Inference = partial("Inference", _TYPES)
INFERENCE_KEYS = tuple(_TYPES)
"""What ``inference`` may set, in a recipe or a checkpoint's ``dualfocus.json``, and so may model arguments."""

Section = Mapping[str, Any]


@dataclass(frozen=True, config=CLOSED)
class _File:
    """The keys of a recipe's file."""

    checkpoint: str | None = None
    """A folder beside the recipe; excludes ``pretrained``."""
    pretrained: str | None = None
    """A checkpoint folder or hub id; a recipe that only carries settings has none."""
    inference: Section = field(default_factory=dict)
    """Those of `INFERENCE_KEYS` that it sets."""
    curation: Section = field(default_factory=dict)
    """Validated by ``dualfocus_eval.curation``."""
    train: Section = field(default_factory=dict)
    """Validated by ``dualfocus_eval.training``."""
    expected: Mapping[str, Annotated[StrictFloat, Field(ge=0, le=100)]] = field(default_factory=dict)
    """Published scores in percent, by task."""
    estimate: Section = field(default_factory=dict)
    """What training costs, as ``measurements/training_costs.py`` wrote it."""

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.pretrained is not None:
            raise ValueError("checkpoint (a folder beside the recipe) and pretrained exclude each other")


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Recipe(_File):
    """One recipe: ``checkpoint`` is resolved into ``pretrained``, ``inference`` is validated and has today's names."""

    path: Path
    warnings: tuple[str, ...] = ()
    """One for each old name in its file."""

    @property
    def image_options(self) -> Mapping[str, Any]:
        """Those of `IMAGE_OPTIONS` that it sets: how images are shown in training and inference alike."""
        return {name: value for name, value in self.inference.items() if name in IMAGE_OPTIONS}

    @property
    def taught(self) -> Mapping[str, Any]:
        """The part of ``inference`` that holds of whatever is trained or converted by it: a calibrated choice is of
        one finished model only."""
        return {
            name: value
            for name, value in self.inference.items()
            if name != "selection" or not is_calibration_file(value)
        }

    @property
    def trained(self) -> Path | None:
        """Where ``dualfocus train`` puts the checkpoint unless told otherwise; None where it trains none."""
        return Path("runs") / self.path.stem / "checkpoint" if self.train else None


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in resource_folder("models").glob("*.yaml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of one in ``models/`` or by its path. Raises ``UserError`` with the place and the fix.

    ``checkpoint`` names a folder relative to the recipe's own; ``pretrained`` is a folder or hub id taken as it stands.
    """
    path = _find(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path} cannot be read: {error}") from error
    if isinstance(content, dict):  # a section without content is none
        content = {key: value for key, value in content.items() if value is not None}
    file = validated(_File, content, f"recipe {path}")
    inference, warnings = inference_settings(file.inference, f"recipe {path}, inference")
    if is_calibration_file(str(inference.get("selection", ""))):
        inference["selection"] = str(path.parent / Path(inference["selection"]).expanduser())
    pretrained = file.pretrained if file.checkpoint is None else str(path.parent / file.checkpoint)
    resolved = {"checkpoint": None, "pretrained": pretrained, "inference": inference}
    return Recipe(**(vars(file) | resolved), path=path, warnings=warnings)


def inference_settings(given: Any, where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that an ``inference`` section names, typed and by today's names, and a warning for each old name.

    Raises ``UserError`` for what is none of `INFERENCE_KEYS` or has a wrong value.
    """
    current, warnings = renamed(given, where) if isinstance(given, Mapping) else (given, ())
    return validated(_Inference, current, where).model_dump(exclude_unset=True), warnings


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if os.path.isfile(path):  # unlike Path.is_file, it does not raise for a name that is too long
        return path
    named = resource_folder("models") / f"{name_or_path}.yaml"
    if path.name == str(name_or_path) and os.path.isfile(named):
        return named
    names = recipe_names()
    near = did_you_mean(name_or_path, names)
    known = f"{', '.join(names) or '(none)'}{'.' if near else ''}{near}"
    raise UserError(f"recipe {str(name_or_path)!r} is neither a file nor one of: {known}")
