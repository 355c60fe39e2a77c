"""Training from a checkpoint: one transformers Trainer per stage, on as many processes as accelerate starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.checkpoints import discard_incomplete, last_checkpoint
from dualfocus_eval.training.encoding import training_processor
from dualfocus_eval.training.export import export
from dualfocus_eval.training.launch import sharded, training_arguments
from dualfocus_eval.training.manifest import (
    claim,
    data_record,
    note_start,
    refuse_other_base,
    tuning_settings,
    write_manifest,
)
from dualfocus_eval.training.mixture import Mixed, mix
from dualfocus_eval.training.notes import base_digest, is_finished, read_stage, result_digest
from dualfocus_eval.training.samples import locate
from dualfocus_eval.training.stage import ADAPTER, StageBase, StageRun, base_config, load_base, train_stage
from dualfocus_eval.training.tuning import TuningPlan, TuningStage

__all__ = ["check_plan", "finetune"]

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint"
"""Folder of the result."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left."""

    checkpoint: Path
    unusable: int
    """Samples that could not be read; each is named in the run's folder. Counted by the main process alone."""


def finetune(recipe: Recipe, plan: TuningPlan, data: Path, out: Path, *, report_to: str = "none") -> FinetuneResult:
    """Train ``recipe`` by its ``plan`` on files below ``data`` into the folder ``out``; ``out / "checkpoint"`` results.

    Every stage leaves its weights under ``out``; a stage that is already there is not run again, and one that was
    broken off goes on from its last complete checkpoint. Raises ``UserError`` where the base, the data or the number of
    processes do not fit the recipe, before the first stage is trained, and where the base or a stage's result is no
    longer what training went on from; `DivergedError` where a loss, gradient or weight is not finite.
    """
    check_plan(plan, data)
    folders = [out / f"{number}-{stage.name}" for number, stage in enumerate(plan.stages, 1)]
    stages = list(zip(plan.stages, folders, strict=True))
    every = [training_arguments(stage, plan, folder, report_to) for stage, folder in stages]
    _, processor, family = load_processor(base_config(plan.base, recipe))
    processor = training_processor(processor, family, plan.base)
    is_main = every[0].should_save
    mixtures = []
    for stage, folder in stages:
        # All nodes write to one disk, so that one process measures for all of them.
        with every[0].main_process_first(local=False, desc="measuring the samples"):
            mixed = mix(stage, plan.seed, data, processor, out / "samples")
            if is_main:
                settings = tuning_settings(recipe, plan, stage, data_record(stage.data, mixed.samples))
                claim(folder, stage.name, settings)
                _show(stage, mixed)
                discard_incomplete(folder / "trainer")
        mixtures.append(mixed)
    base = StageBase(plan.base, base_digest(plan.base) if is_main else "")
    for (stage, folder), mixed in zip(stages, mixtures, strict=True):
        if is_main:
            refuse_other_base(folder, base.name, base.digest)
        if not is_finished(folder):
            last = last_checkpoint(folder / "trainer", fsdp=sharded("FSDP"))
            if is_main:
                note_start(folder, every[0].world_size, base.digest)
                write_manifest(out, recipe, plan, folders)
            # Made anew for every stage: ZeRO-3 shares out the weights that are loaded after them.
            arguments = training_arguments(stage, plan, folder, report_to)
            train_stage(StageRun(recipe, stage, folder, base, mixed, arguments, last))
        base = StageBase(str(folder), result_digest(folder) if is_main else "")
    unusable = 0
    if is_main:
        unusable = sum(len(found.faults) for mixed in mixtures for found in mixed.samples)
        unusable += _export(recipe, plan, out, folders)
    PartialState().wait_for_everyone()
    return FinetuneResult(out / _CHECKPOINT, unusable)


def _export(recipe: Recipe, plan: TuningPlan, out: Path, folders: Sequence[Path]) -> int:
    """Write the checkpoint of the last stage; returns how many samples all stages found to be unusable."""
    log = [read_stage(folder) for folder in folders]
    model, processor, _ = load_base(str(folders[-1]), recipe, None)
    # Of several stages' adapters, none alone makes the checkpoint out of the base.
    adapter = folders[-1] / ADAPTER if len(plan.stages) == 1 and plan.stages[0].lora else None
    write_manifest(out, recipe, plan, folders)
    export(recipe, model, processor, out / _CHECKPOINT, log, adapter=adapter)
    print(f"checkpoint: {out / _CHECKPOINT}")
    return sum(record["unreadable"] for record in log)


def check_plan(plan: TuningPlan, data: Path) -> None:
    """Raise ``UserError`` for what can be known to be wrong with any stage before anything is loaded."""
    for stage in plan.stages:
        for source in stage.data:
            locate(source, data)
    tasks = [task for stage in plan.stages if stage.evaluate for task in stage.evaluate.tasks]
    if tasks:
        from dualfocus_eval.training.evaluation import check_tasks

        check_tasks(tasks)


def _show(stage: TuningStage, mixed: Mixed) -> None:
    for found, source in zip(mixed.samples, stage.data, strict=True):
        for fault in found.faults[:5]:
            logger.warning(one_line(f"{fault.where} is left out: {fault.reason}"))
        if found.faults:
            logger.warning(f"{source.file}: {len(found.faults)} samples are left out; OUT/samples names all")
    print(
        f"stage {stage.name}: {len(mixed.chosen)} samples, {len(mixed.order) // stage.batch_size} steps; "
        f"{mixed.too_long} samples are longer than {stage.max_length} tokens and left out",
        flush=True,
    )
