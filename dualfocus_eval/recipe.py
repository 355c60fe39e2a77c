"""A recipe: one YAML file per model in ``models/``, which says how it answers questions and how it is trained.

Imports nothing heavy, so that a wrong recipe is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.method.settings import Settings

__all__ = ["INFERENCE_KEYS", "Recipe", "load_recipe", "recipe_names"]

INFERENCE_KEYS = (*(setting.name for setting in fields(Settings)), "image_aspect")
"""What ``inference`` may set, in a recipe or a checkpoint's ``dualfocus.json``, and so may model arguments."""

_TOP_LEVEL = ("checkpoint", "pretrained", "inference", "curation", "train", "expected", "estimate")


@dataclass(frozen=True)
class Recipe:
    """One parsed recipe; unknown keys were refused, values of ``inference`` are checked when settings are resolved."""

    path: Path
    pretrained: str | None = None
    """A checkpoint folder or hub id; a recipe that only carries settings has none."""
    inference: Mapping[str, Any] = field(default_factory=dict)
    curation: Mapping[str, Any] = field(default_factory=dict)
    """Validated by ``dualfocus_eval.curation``."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Validated by ``dualfocus_eval.training``."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Published scores in percent, by task."""
    estimate: Mapping[str, Any] = field(default_factory=dict)
    """What training costs, as ``measurements/training_costs.py`` wrote it."""

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
    top = _mapping(content, f"recipe {path}")
    refuse_unknown(top, _TOP_LEVEL, f"recipe {path}", "key")
    if "checkpoint" in top and "pretrained" in top:
        raise UserError(f"recipe {path}: checkpoint (a folder beside the recipe) and pretrained exclude each other")
    inference = _mapping(top.get("inference") or {}, f"recipe {path}, inference")
    refuse_unknown(inference, INFERENCE_KEYS, f"recipe {path}, inference", "key")
    pretrained = str(path.parent / top["checkpoint"]) if "checkpoint" in top else top.get("pretrained")
    return Recipe(
        path,
        pretrained,
        inference,
        curation=_mapping(top.get("curation") or {}, f"recipe {path}, curation"),
        train=_mapping(top.get("train") or {}, f"recipe {path}, train"),
        expected=_scores(top.get("expected") or {}, f"recipe {path}, expected"),
        estimate=_mapping(top.get("estimate") or {}, f"recipe {path}, estimate"),
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    named = resource_folder("models") / f"{name_or_path}.yaml"
    if path.name == str(name_or_path) and named.is_file():
        return named
    raise UserError(
        f"recipe {str(name_or_path)!r} is neither a file nor one of: {', '.join(recipe_names()) or '(none)'}"
    )


def _scores(value: Any, where: str) -> dict[str, float]:
    scores = _mapping(value, where)
    for task, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:
            raise UserError(f"{where}, {task}: {score!r} is not a score in percent")
    return scores


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected keys with values, found {type(value).__name__}")
    return value
