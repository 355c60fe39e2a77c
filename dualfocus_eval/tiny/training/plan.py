"""The ``train`` section of a recipe, validated before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Literal

from pydantic import Field, StrictInt
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.common.validation import CLOSED, OneOf, validated
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.tiny.training.from_nothing import ModelShape
from dualfocus_eval.training.tuning import AtLeastZero, Count, Share

__all__ = ["FRAMES", "MIXTURE", "Stage", "TrainPlan", "train_plan"]

Objective = Literal["patch_labels", "conversations"]
FRAMES = ("whole", "crop", "close_up", "chart")
"""Views of a scene: the whole image; one or two objects, loosely framed; one object with a mark, framed closely; and,
like an optician's chart, a dozen marks and nothing else."""
MIXTURE = ("macro", "grounding", "dualfocus", "choice", "existence")
"""Kinds of conversation samples. ``macro``: plain questions; ``grounding``: Q1 with its box; ``dualfocus``: both rounds
with the crop; ``choice``: multiple choice, in one round or two, depending on which of ``macro`` and ``dualfocus`` the
mix has; ``existence``: POPE's questions, with Q1 only or in both rounds."""
FrameName = Annotated[str, OneOf(lambda: FRAMES)]
MixtureName = Annotated[str, OneOf(lambda: MIXTURE)]


@dataclass(frozen=True, config=CLOSED)
class Stage:
    """One run of the Trainer; the next stage starts from its weights."""

    name: str
    objective: Objective
    samples: Count
    """Scenes; each gives its ``frames`` for ``patch_labels``, one conversation otherwise."""
    batch_size: Count
    learning_rate: AtLeastZero
    mix: Mapping[MixtureName, AtLeastZero] = field(default_factory=dict)
    """Weights of the kinds in `MIXTURE`, for ``conversations``."""
    frames: Mapping[FrameName, Annotated[StrictInt, Field(ge=0)]] = field(default_factory=dict)
    """How many frames of each kind in `FRAMES` a scene gives, for ``patch_labels``."""
    guidance: AtLeastZero = 0.0
    """Weight of the loss that teaches attention where to look, for ``conversations``; 0 leaves attention alone."""
    freeze: tuple[str, ...] = ()
    """Submodules that keep their weights, e.g. ``vision_tower``."""
    rounded: bool = False
    """Whether the last stage's weights are first rounded to bfloat16, the precision of a checkpoint. A stage that was
    trained on top of a published checkpoint can then be repeated from nothing."""
    epochs: Count = 1
    weight_decay: AtLeastZero = 0.05
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.3
    """Share of the steps in which it falls to zero; constant in between."""

    def __post_init__(self) -> None:
        patches = self.objective == "patch_labels"
        idle = [name for name in (("mix", "guidance") if patches else ("frames",)) if getattr(self, name)]
        if idle:
            raise ValueError(f"{idle[0]} means nothing to objective {self.objective}; take it out")
        if patches and not any(self.frames.values()):
            raise ValueError(f"frames needs at least one of: {', '.join(FRAMES)}")
        if not patches and not any(self.mix.values()):
            raise ValueError(f"mix needs a positive weight for at least one of: {', '.join(MIXTURE)}")


@dataclass(frozen=True, config=CLOSED)
class TrainPlan:
    """How a checkpoint comes about: the model's shape, the scenes it sees, the stages it goes through."""

    stages: tuple[Stage, ...]
    seed: StrictInt = 0
    scenes: StrictInt = 0
    """Seed of the training scenes; held-out sets are rendered from other seeds."""
    model: ModelShape = field(default_factory=ModelShape)
    prompt_set: str = Settings.prompt_set
    margin: float = Settings.margin

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages must be a list of at least one stage")
        if self.stages[0].rounded:
            raise ValueError("rounded means nothing to the first stage, which starts from nothing; take it out")


def train_plan(recipe: Recipe) -> TrainPlan:
    """The validated plan of a recipe that trains from nothing.

    Raises ``UserError`` naming the key that is wrong.
    """
    where = f"recipe {recipe.path}, train"
    if not recipe.train:
        raise UserError(f"recipe {recipe.path} has no train section: it only says how a checkpoint answers")
    section = dict(recipe.train)
    given = section.get("stages")
    if isinstance(given, list) and any(isinstance(s, dict) and s.get("objective") == "instructions" for s in given):
        raise UserError(f"{where}: objective instructions needs a checkpoint to start from: train.base")
    refuse_unknown(section, ("seed", "scenes", "model", "stages"), where, "key")
    plan = validated(TrainPlan, section, where)
    prompt_set, margin = (
        recipe.inference.get("prompt_set", plan.prompt_set),
        recipe.inference.get("margin", plan.margin),
    )
    return replace(plan, prompt_set=prompt_set, margin=margin)
