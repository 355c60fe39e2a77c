"""The ``train`` section of a recipe that starts from a checkpoint, validated before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, get_args

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.training.typed import typed

__all__ = ["PARTS", "Evaluation", "Lora", "Part", "Source", "TuningPlan", "TuningStage", "tuning_plan"]

Part = Literal["vision_tower", "connector", "language_model"]
PARTS: tuple[Part, ...] = get_args(Part)
"""The parts of a vision-language model; every family says which of its weights belong to which."""


@dataclass(frozen=True)
class Source:
    """One file of training samples in LLaVA's format."""

    file: str
    """JSON list, JSON lines or parquet, relative to the data folder."""
    images: str = "."
    """Folder that the samples' ``image`` is relative to, itself relative to the data folder."""
    weight: float = 1.0
    """Share of the samples that the epoch has: 1 is each once, 0.5 a seeded half, 2 each twice."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the language model's linear layers."""

    rank: int
    alpha: float
    dropout: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """Tasks that the model answers during training, through the plugin."""

    tasks: tuple[str, ...]
    every: int
    """Optimiser steps."""
    limit: int | None = None
    """Only the first questions of each task."""


@dataclass(frozen=True)
class TuningStage:
    """One epoch over a mixture of files; the next stage starts from its weights."""

    name: str
    objective: Literal["instructions"]
    data: tuple[Source, ...]
    batch_size: int
    """Samples per optimiser step, over all processes."""
    learning_rate: float
    micro_batch_size: int = 1
    """Samples per process in one forward pass; how often gradients accumulate follows from the number of processes."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    freeze: tuple[Part, ...] = ()
    lora: Lora | None = None
    """Absent: every weight that is not frozen is trained. Otherwise adapters, and the connector unless it is frozen."""
    max_length: int = 2048
    """Tokens of a sample, its images expanded; longer samples are dropped and counted."""
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = True
    group_by_length: bool = True
    evaluate: Evaluation | None = None
    save_every: int = 500
    """Optimiser steps between checkpoints to resume from."""

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


@dataclass(frozen=True)
class TuningPlan:
    """From a checkpoint to a better one."""

    base: str
    """Hub id or folder."""
    stages: tuple[TuningStage, ...]
    seed: int = 0


def tuning_plan(section: Mapping[str, Any], where: str) -> TuningPlan:
    """The validated plan of a ``train`` section with ``base``. Raises ``UserError`` naming the key that is wrong."""
    excluded = [key for key in ("model", "scenes") if key in section]
    if excluded:
        raise UserError(f"{where}: base (start from a checkpoint) and {excluded[0]} (from nothing) exclude each other")
    plan: TuningPlan = typed(TuningPlan, section, where)
    if not plan.stages:
        raise UserError(f"{where}: stages must be a list of at least one stage")
    names = [stage.name for stage in plan.stages]
    for number, stage in enumerate(plan.stages, 1):
        place = f"{where}, stages {number}"
        if PurePath(stage.name).name != stage.name:
            raise UserError(f"{place}, name: {stage.name!r} must be usable as a folder's name")
        if names.count(stage.name) > 1:
            raise UserError(f"{place}, name: {stage.name!r} is the name of another stage too")
        _check_stage(stage, place)
    return plan


def _check_stage(stage: TuningStage, where: str) -> None:
    if not stage.data:
        raise UserError(f"{where}, data: at least one file is needed")
    checks: list[tuple[str, float, Callable[[Any], bool], str]] = [
        ("learning_rate", stage.learning_rate, lambda value: value >= 0, "at least 0"),
        ("warmup", stage.warmup, lambda value: 0 <= value <= 1, "a share between 0 and 1"),
        ("weight_decay", stage.weight_decay, lambda value: value >= 0, "at least 0"),
    ]
    for key in ("batch_size", "micro_batch_size", "max_length", "save_every"):
        checks.append((key, getattr(stage, key), lambda value: value >= 1, "at least 1"))
    for number, source in enumerate(stage.data, 1):
        checks.append((f"data {number}, weight", source.weight, lambda value: value > 0, "above 0"))
    if stage.lora is not None:
        checks += [
            ("lora, rank", stage.lora.rank, lambda value: value >= 1, "at least 1"),
            ("lora, alpha", stage.lora.alpha, lambda value: value > 0, "above 0"),
            ("lora, dropout", stage.lora.dropout, lambda value: 0 <= value < 1, "at least 0 and below 1"),
        ]
    if stage.evaluate is not None:
        checks.append(("evaluate, every", stage.evaluate.every, lambda value: value >= 1, "at least 1"))
        if stage.evaluate.limit is not None:
            checks.append(("evaluate, limit", stage.evaluate.limit, lambda value: value >= 1, "at least 1"))
        if not stage.evaluate.tasks:
            raise UserError(f"{where}, evaluate: tasks must name at least one task")
    for key, value, holds, wanted in checks:
        if not (math.isfinite(value) and holds(value)):
            raise UserError(f"{where}, {key}: {value} must be {wanted}")
    if set(stage.freeze) == set(PARTS):
        raise UserError(f"{where}, freeze: nothing is left to train")
    if stage.lora is not None and "language_model" in stage.freeze:
        raise UserError(f"{where}, freeze: lora trains the language model; take one of the two out")
    if stage.batch_size % stage.micro_batch_size:
        raise UserError(
            f"{where}, batch_size: {stage.batch_size} is not a multiple of micro_batch_size {stage.micro_batch_size}"
        )
