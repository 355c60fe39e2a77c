"""The ``train`` section of a recipe that starts from a checkpoint, validated before anything heavy is imported."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, get_args

from pydantic import Field, StrictBool, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.recipe import Recipe

__all__ = ["Evaluation", "Lora", "Part", "Source", "TuningPlan", "TuningStage", "tuning_plan"]

Count = Annotated[StrictInt, Field(ge=1)]
Share = Annotated[StrictFloat, Field(ge=0, le=1)]
AtLeastZero = Annotated[StrictFloat, Field(ge=0)]
Positive = Annotated[StrictFloat, Field(gt=0)]

Part = Literal["vision_tower", "connector", "language_model"]
PARTS: tuple[Part, ...] = get_args(Part)
"""The parts of a vision-language model; every family says which of its weights belong to which."""


@dataclass(frozen=True, config=CLOSED)
class Source:
    """One file of training samples in LLaVA's format."""

    file: str
    """JSON list, JSON lines or parquet, relative to the data folder."""
    images: str = "."
    """Folder that the samples' ``image`` is relative to, itself relative to the data folder."""
    weight: Positive = 1.0
    """Share of the samples that the epoch has: 1 is each once, 0.5 a seeded half, 2 each twice."""


@dataclass(frozen=True, config=CLOSED)
class Lora:
    """Low-rank adapters on the language model's linear layers."""

    rank: Count
    alpha: Positive
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, config=CLOSED)
class Evaluation:
    """Tasks that the model answers during training, through the plugin."""

    tasks: tuple[str, ...]
    every: Count
    """Optimiser steps."""
    limit: Count | None = None
    """Only the first questions of each task."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks must name at least one task")


@dataclass(frozen=True, config=CLOSED)
class TuningStage:
    """One epoch over a mixture of files; the next stage starts from its weights."""

    name: str
    objective: Literal["instructions"]
    data: tuple[Source, ...]
    batch_size: Count
    """Samples per optimiser step, over all processes."""
    learning_rate: AtLeastZero
    micro_batch_size: Count = 1
    """Samples per process in one forward pass; how often gradients accumulate follows from the number of processes."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: AtLeastZero = 0.0
    freeze: tuple[Part, ...] = ()
    lora: Lora | None = None
    """Absent: every weight that is not frozen is trained. Otherwise adapters, and the connector unless it is frozen."""
    max_length: Count = 2048
    """Tokens of a sample, its images expanded; longer samples are dropped and counted."""
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: StrictBool = True
    group_by_length: StrictBool = True
    evaluate: Evaluation | None = None
    save_every: Count = 500
    """Optimiser steps between checkpoints to resume from."""

    def __post_init__(self) -> None:
        if PurePath(self.name).name != self.name:
            raise ValueError(f"name {self.name!r} must be usable as a folder's name")
        if set(self.freeze) == set(PARTS):
            raise ValueError("freeze leaves nothing to train")
        if self.lora is not None and "language_model" in self.freeze:
            raise ValueError("lora trains the language model, which freeze holds still; take one of the two out")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )

    @property
    def trained(self) -> tuple[Part, ...]:
        """The parts whose own weights are trained; with ``lora`` the connector at most, beside the adapters."""
        return tuple(part for part in PARTS if part not in self.freeze and (not self.lora or part == "connector"))

    def accumulation(self, processes: int) -> int:
        """Forward passes per optimiser step and process. Raises ``UserError`` where the batch cannot be shared out."""
        at_once = self.micro_batch_size * processes
        if self.batch_size % at_once:
            raise UserError(
                f"stage {self.name}: batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size} times {processes} processes; change one of the three"
            )
        return self.batch_size // at_once


@dataclass(frozen=True, config=CLOSED)
class TuningPlan:
    """From a checkpoint to a better one."""

    base: str
    """Hub id or folder."""
    stages: tuple[TuningStage, ...]
    seed: StrictInt = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages must be a list of at least one stage")
        for number, stage in enumerate(self.stages, 1):
            if not stage.data:
                raise ValueError(f"stages {number}, data: at least one file is needed")
        names = [stage.name for stage in self.stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"stages: two have the name {twice[0]!r}")


def tuning_plan(recipe: Recipe) -> TuningPlan:
    """The validated plan of a recipe whose ``train`` section has a ``base``.

    Raises ``UserError`` naming the key that is wrong.
    """
    section, where = recipe.train, f"recipe {recipe.path}, train"
    excluded = [key for key in ("model", "scenes") if key in section]
    if excluded:
        raise UserError(f"{where}: base (start from a checkpoint) and {excluded[0]} (from nothing) exclude each other")
    return validated(TuningPlan, section, where)
