"""Training from a checkpoint: one transformers Trainer per stage, on as many processes as accelerate starts."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_parts, load_processor
from dualfocus_eval.families import Family
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.batches import EpochSamples, InstructionCollator
from dualfocus_eval.training.checkpoints import discard_incomplete, last_checkpoint
from dualfocus_eval.training.encoding import training_processor
from dualfocus_eval.training.export import export
from dualfocus_eval.training.finite import refuse_non_finite_weights
from dualfocus_eval.training.launch import name_layers, sharded, tensorboard_in, training_arguments
from dualfocus_eval.training.manifest import (
    claim,
    data_record,
    note_start,
    refuse_other_base,
    tuning_settings,
    write_manifest,
)
from dualfocus_eval.training.mixture import epoch, shares
from dualfocus_eval.training.notes import base_digest, finish_stage, is_finished, read_stage, result_digest
from dualfocus_eval.training.parts import prepare_training
from dualfocus_eval.training.rejections import rejected_places, rejections_file
from dualfocus_eval.training.samples import Samples, locate, measure
from dualfocus_eval.training.trainer import TuningTrainer, losses
from dualfocus_eval.training.tuning import TuningPlan, TuningStage

__all__ = ["FinetuneResult", "Mixed", "check_plan", "finetune", "mix"]

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint"
"""Folder of the result."""
ADAPTER = "adapter"
"""Folder of a stage's low-rank adapters, beside the weights that they are merged into."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left."""

    checkpoint: Path
    unusable: int
    """Samples that could not be read; each is named in the run's folder. Counted by the main process alone."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """The samples of one stage's epoch."""

    samples: tuple[Samples, ...]
    chosen: list[tuple[int, int]]
    """(source, row), as many times as the epoch has it."""
    order: list[int]
    """Positions in ``chosen``."""
    too_long: int
    """How many were left out for their length."""


def mix(stage: TuningStage, seed: int, data: Path, processor: Any, folder: Path) -> Mixed:
    """The epoch of ``stage`` over files below ``data``; what is measured is kept in ``folder``.

    ``processor`` comes from `training_processor`. Raises ``UserError`` where nothing is left to train on.
    """
    samples = tuple(measure(source, data, processor, folder) for source in stage.data)
    lengths = [found.column("length") for found in samples]
    drawn = shares([len(found) for found in samples], [source.weight for source in stage.data], seed)
    chosen = [(source, row) for source, row in drawn if lengths[source][row] <= stage.max_length]
    if not drawn:
        raise UserError(f"stage {stage.name}: the weights leave no sample of {sum(map(len, samples))}; raise them")
    if not chosen:
        raise UserError(f"stage {stage.name}: all samples are longer than max_length {stage.max_length}; raise it")
    order = epoch(
        [int(lengths[source][row]) for source, row in chosen], stage.batch_size, seed, grouped=stage.group_by_length
    )
    return Mixed(samples, chosen, order, len(drawn) - len(chosen))


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
    _, processor, family = load_processor(_base_config(plan.base, recipe))
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
    base = _Base(plan.base, base_digest(plan.base) if is_main else "")
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
            _run(_StageRun(recipe, stage, folder, base, mixed, arguments, last))
        base = _Base(str(folder), result_digest(folder) if is_main else "")
    unusable = 0
    if is_main:
        unusable = sum(len(found.faults) for mixed in mixtures for found in mixed.samples)
        unusable += _export(recipe, plan, out, folders)
    PartialState().wait_for_everyone()
    return FinetuneResult(out / _CHECKPOINT, unusable)


def _export(recipe: Recipe, plan: TuningPlan, out: Path, folders: Sequence[Path]) -> int:
    """Write the checkpoint of the last stage; returns how many samples all stages found to be unusable."""
    log = [read_stage(folder) for folder in folders]
    model, processor, _ = _load(str(folders[-1]), recipe, None)
    # Of several stages' adapters, none alone makes the checkpoint out of the base.
    adapter = folders[-1] / ADAPTER if len(plan.stages) == 1 and plan.stages[0].lora else None
    write_manifest(out, recipe, plan, folders)
    export(recipe, model, processor, out / _CHECKPOINT, log, adapter=adapter)
    print(f"checkpoint: {out / _CHECKPOINT}")
    return sum(record["unreadable"] for record in log)


@dataclass(frozen=True)
class _Base:
    """What a stage starts from: the plan's base, or the folder of the last stage."""

    name: str
    digest: str
    """Empty on all but the main process."""


def check_plan(plan: TuningPlan, data: Path) -> None:
    """Raise ``UserError`` for what can be known to be wrong with any stage before anything is loaded."""
    for stage in plan.stages:
        for source in stage.data:
            locate(source, data)
    tasks = [task for stage in plan.stages if stage.evaluate for task in stage.evaluate.tasks]
    if tasks:
        from dualfocus_eval.training.evaluation import check_tasks

        check_tasks(tasks)


def _base_config(base: str, recipe: Recipe, dtype: str = "float32") -> EngineConfig:
    aspect = recipe.inference.get("image_aspect", "checkpoint")
    return EngineConfig(pretrained=base, device="cpu", dtype=dtype, image_aspect=aspect)


def _load(base: str, recipe: Recipe, stage: TuningStage | None) -> tuple[Any, Any, Family]:
    """``base`` in float32, or in bfloat16 where most of it stays as it is; whole where it is for no ``stage``."""
    if stage is None:
        # Under ZeRO-3, transformers would share out these weights too, and wait for processes that do not load them.
        unset_hf_deepspeed_config()
    frozen = stage is not None and stage.lora is not None and stage.precision == "bf16" and not sharded()
    model, processor, family = load_parts(_base_config(base, recipe, "bfloat16" if frozen else "float32"))
    return model, training_processor(processor, family, base), family


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


@dataclass(frozen=True, eq=False)
class _StageRun:
    """All that a stage is trained from."""

    recipe: Recipe
    stage: TuningStage
    folder: Path
    base: _Base
    mixed: Mixed
    arguments: TrainingArguments
    last: Path | None
    """The checkpoint to go on from."""


def _run(run: _StageRun) -> None:
    stage, folder, mixed, arguments = run.stage, run.folder, run.mixed, run.arguments
    model, processor, family = _load(run.base.name, run.recipe, stage)
    if sharded():
        name_layers(model)
    started = time.monotonic()
    set_seed(arguments.seed)
    steps = len(mixed.order) // stage.batch_size
    arguments.warmup_steps = math.ceil(stage.warmup * steps)
    rejected = rejections_file(folder, arguments.process_index)
    with tensorboard_in(folder / "runs"):
        trainer = TuningTrainer(
            model=prepare_training(model, family, stage),
            args=arguments,
            train_dataset=EpochSamples(mixed.samples, mixed.chosen, mixed.order, processor),
            data_collator=InstructionCollator(processor),
            eval_dataset=[] if stage.evaluate else None,
            evaluator=_evaluator(run, processor, family),
            rejected=rejected,
        )
    trainer.train(resume_from_checkpoint=None if run.last is None else str(run.last))
    _save(trainer, run, processor)
    if arguments.should_save:
        record = {
            "stage": stage.name,
            "steps": trainer.state.global_step,
            "samples": len(mixed.chosen),
            "too_long": mixed.too_long,
            "unreadable": len(rejected_places(folder)),
            "seconds": round(time.monotonic() - started),
            "losses": losses(trainer.state.log_history),
            "scores": [entry for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)],
        }
        finish_stage(folder, record)
        shutil.rmtree(folder / "trainer", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _evaluator(run: _StageRun, processor: Any, family: Family) -> Any:
    stage = run.stage
    if stage.evaluate is None:
        return None
    from dualfocus_eval.training.evaluation import TaskEvaluator

    model_args = {**run.recipe.inference, "pretrained": run.base.name, "batch_size": stage.micro_batch_size}
    return TaskEvaluator(stage.evaluate, model_args, processor, family, run.folder / "traces")


def _save(trainer: TuningTrainer, run: _StageRun, processor: Any) -> None:
    """The stage's weights, whole and merged, wherever their shards lie."""
    folder, weights = run.folder, trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        refuse_non_finite_weights(weights.items(), f"stage {folder.name}, at its end")
        trained = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        if run.stage.lora is None:
            trained.save_pretrained(folder, state_dict=weights)
        else:
            from peft import PeftModel

            trained.save_pretrained(folder / ADAPTER, state_dict=weights)
            # Hours may have passed since the adapter's base was loaded.
            refuse_other_base(folder, run.base.name, base_digest(run.base.name))
            whole, _, _ = _load(run.base.name, run.recipe, None)
            PeftModel.from_pretrained(whole, folder / ADAPTER).merge_and_unload().save_pretrained(folder)
        processor.save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()
