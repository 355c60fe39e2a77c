"""The ``train`` section of a recipe, validated before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from dualfocus_eval.errors import UserError
from dualfocus_eval.naming import refuse_unknown
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.train.scratch import ModelShape
from dualfocus_eval.train.tuning import TuningPlan, tuning_plan

__all__ = ["FRAMES", "MIXTURE", "Objective", "Stage", "TrainPlan", "train_plan"]

Objective = Literal["patch_labels", "conversations"]
FRAMES = ("whole", "crop", "close_up", "chart")
"""Views of a scene: the whole image; one or two objects, loosely framed; one object with a mark, framed closely; and,
like an optician's chart, a dozen marks and nothing else."""
MIXTURE = ("macro", "grounding", "dualfocus")
"""Kinds of conversation samples: plain questions, Q1 with its box, both rounds with the crop."""


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

    seed: int
    scenes: int
    """Seed of the training scenes; held-out sets are rendered from other seeds."""
    model: ModelShape
    stages: tuple[Stage, ...]
    wording: str = "released"
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
    refuse_unknown(section, ("seed", "scenes", "model", "stages"), where, "key")
    stages = section.get("stages")
    if not isinstance(stages, list) or not stages:
        raise UserError(f"{where}: stages must be a list of at least one stage")
    return TrainPlan(
        seed=int(section.get("seed", 0)),
        scenes=int(section.get("scenes", 0)),
        model=_record(ModelShape, section.get("model") or {}, f"{where}, model"),
        stages=tuple(_stage(stage, f"{where}, stage {number}") for number, stage in enumerate(stages, 1)),
        wording=str(recipe.inference.get("wording", "released")),
        margin=float(recipe.inference.get("margin", 25.0)),
    )


def _stage(values: Any, where: str) -> Stage:
    stage: Stage = _record(Stage, values, where)
    if stage.objective not in get_args(Objective):
        raise UserError(
            f"{where}: objective {stage.objective!r} is not one of: {', '.join(get_args(Objective))} "
            "(instructions needs a checkpoint to start from: train.base)"
        )
    _check_kinds(stage.frames, FRAMES, int, f"{where}, frames")
    _check_kinds(stage.mix, MIXTURE, (int, float), f"{where}, mix")
    patches = stage.objective == "patch_labels"
    idle = [name for name in (("mix", "guidance") if patches else ("frames",)) if getattr(stage, name)]
    if idle:
        raise UserError(f"{where}: {idle[0]} means nothing to objective {stage.objective}; take it out")
    if patches and not any(stage.frames.values()):
        raise UserError(f"{where}: frames needs at least one of: {', '.join(FRAMES)}")
    if not patches and not any(stage.mix.values()):
        raise UserError(f"{where}: mix needs a positive weight for at least one of: {', '.join(MIXTURE)}")
    return stage


def _check_kinds(values: Any, known: Sequence[str], types: Any, where: str) -> None:
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected kinds with numbers, found {type(values).__name__}")
    refuse_unknown(values, known, where, "kind")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, types) or value < 0:
            what = "a whole number" if types is int else "a number"
            raise UserError(f"{where}, {name}: {value!r} is not {what} of at least 0")


def _record(kind: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected keys with values, found {type(values).__name__}")
    refuse_unknown(values, [entry.name for entry in fields(kind)], where, "key")
    converted = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return kind(**converted)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error
