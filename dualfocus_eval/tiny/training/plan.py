"""The ``train`` section of a recipe, validated before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.tiny.training.from_nothing import ModelShape
from dualfocus_eval.training.tuning import TuningPlan, tuning_plan
from dualfocus_eval.training.typed import typed

__all__ = ["FRAMES", "MIXTURE", "Objective", "Stage", "TrainPlan", "train_plan"]

Objective = Literal["patch_labels", "conversations"]
FRAMES = ("whole", "crop", "close_up", "chart")
"""Views of a scene: the whole image; one or two objects, loosely framed; one object with a mark, framed closely; and,
like an optician's chart, a dozen marks and nothing else."""
MIXTURE = ("macro", "grounding", "dualfocus", "choice")
"""Kinds of conversation samples: plain questions, Q1 with its box, both rounds with the crop; multiple choice, in
one round or two."""


@dataclass(frozen=True)
class Stage:
    """One run of the Trainer; the next stage starts from its weights."""

    name: str
    objective: Objective
    samples: int
    """Scenes; each gives its ``frames`` for ``patch_labels``, one conversation otherwise."""
    batch_size: int
    learning_rate: float
    mix: Mapping[str, float] = field(default_factory=dict)
    """Weights of the kinds in `MIXTURE`, for ``conversations``."""
    frames: Mapping[str, int] = field(default_factory=dict)
    """How many frames of each kind in `FRAMES` a scene gives, for ``patch_labels``."""
    guidance: float = 0.0
    """Weight of the loss that teaches attention where to look, for ``conversations``; 0 leaves attention alone."""
    freeze: tuple[str, ...] = ()
    """Submodules that keep their weights, e.g. ``vision_tower``."""
    epochs: int = 1
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    decay: float = 0.3
    """Share of the steps in which it falls to zero; constant in between."""


@dataclass(frozen=True)
class TrainPlan:
    """How a checkpoint comes about: the model's shape, the scenes it sees, the stages it goes through."""

    stages: tuple[Stage, ...]
    seed: int = 0
    scenes: int = 0
    """Seed of the training scenes; held-out sets are rendered from other seeds."""
    model: ModelShape = field(default_factory=ModelShape)
    prompt_set: str = "released"
    margin: float = 25.0


def train_plan(recipe: Recipe) -> TrainPlan | TuningPlan:
    """The validated plan of ``recipe``: from nothing, or with ``base`` from a checkpoint.

    Raises ``UserError`` naming the key that is wrong.
    """
    where = f"recipe {recipe.path}, train"
    if not recipe.train:
        raise UserError(f"recipe {recipe.path} has no train section: it only says how a checkpoint answers")
    section = dict(recipe.train)
    if "base" in section:
        return tuning_plan(section, where)
    given = section.get("stages")
    if isinstance(given, list) and any(isinstance(s, dict) and s.get("objective") == "instructions" for s in given):
        raise UserError(f"{where}: objective instructions needs a checkpoint to start from: train.base")
    refuse_unknown(section, ("seed", "scenes", "model", "stages"), where, "key")
    plan = typed(TrainPlan, section, where)
    if not plan.stages:
        raise UserError(f"{where}: stages must be a list of at least one stage")
    for number, stage in enumerate(plan.stages, 1):
        _check_stage(stage, f"{where}, stages {number}")
    prompt_set, margin = (
        recipe.inference.get("prompt_set", plan.prompt_set),
        recipe.inference.get("margin", plan.margin),
    )
    return replace(plan, prompt_set=str(prompt_set), margin=float(margin))


def _check_stage(stage: Stage, where: str) -> None:
    _check_numbers(stage, where)
    _check_kinds(stage.frames, FRAMES, f"{where}, frames")
    _check_kinds(stage.mix, MIXTURE, f"{where}, mix")
    patches = stage.objective == "patch_labels"
    idle = [name for name in (("mix", "guidance") if patches else ("frames",)) if getattr(stage, name)]
    if idle:
        raise UserError(f"{where}: {idle[0]} means nothing to objective {stage.objective}; take it out")
    if patches and not any(stage.frames.values()):
        raise UserError(f"{where}: frames needs at least one of: {', '.join(FRAMES)}")
    if not patches and not any(stage.mix.values()):
        raise UserError(f"{where}: mix needs a positive weight for at least one of: {', '.join(MIXTURE)}")


def _check_numbers(stage: Stage, where: str) -> None:
    for key in ("samples", "batch_size", "epochs"):
        if getattr(stage, key) < 1:
            raise UserError(f"{where}, {key}: {getattr(stage, key)} must be at least 1")
    for key, highest in (
        ("learning_rate", math.inf),
        ("weight_decay", math.inf),
        ("guidance", math.inf),
        ("warmup", 1),
        ("decay", 1),
    ):
        value = getattr(stage, key)
        if not (math.isfinite(value) and 0 <= value <= highest):
            raise UserError(f"{where}, {key}: {value} must be at least 0" + (" and at most 1" if highest == 1 else ""))


def _check_kinds(values: Mapping[str, float], known: Sequence[str], where: str) -> None:
    refuse_unknown(values, known, where, "kind")
    for name, value in values.items():
        if value < 0:
            raise UserError(f"{where}, {name}: {value} must be at least 0")
