"""One stage of training: from its base to its weights."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import set_seed
from transformers import TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config

from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_parts
from dualfocus_eval.families import Family
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.batches import EpochSamples, InstructionCollator
from dualfocus_eval.training.encoding import training_processor
from dualfocus_eval.training.finite import refuse_non_finite_weights
from dualfocus_eval.training.launch import name_layers, sharded, tensorboard_in
from dualfocus_eval.training.manifest import refuse_other_base
from dualfocus_eval.training.mixture import Mixed
from dualfocus_eval.training.notes import base_digest, finish_stage
from dualfocus_eval.training.parts import prepare_training
from dualfocus_eval.training.rejections import rejected_places, rejections_file
from dualfocus_eval.training.trainer import TuningTrainer, losses
from dualfocus_eval.training.tuning import TuningStage

__all__ = ["ADAPTER", "StageBase", "StageRun", "base_config", "load_base", "train_stage"]

ADAPTER = "adapter"
"""Folder of a stage's low-rank adapters, beside the weights that they are merged into."""


@dataclass(frozen=True)
class StageBase:
    """What a stage starts from: the plan's base, or the folder of the last stage."""

    name: str
    digest: str
    """Empty on all but the main process."""


def base_config(base: str, recipe: Recipe, dtype: Literal["float32", "bfloat16"] = "float32") -> EngineConfig:
    """How ``base`` is loaded for training: as the recipe shows it images, on the CPU at first."""
    return EngineConfig(base, device="cpu", dtype=dtype, **recipe.image_options)


def load_base(base: str, recipe: Recipe, stage: TuningStage | None) -> tuple[Any, Any, Family]:
    """``base`` in float32, or in bfloat16 where most of it stays as it is; whole where it is for no ``stage``."""
    if stage is None:
        # Under ZeRO-3, transformers would share out these weights too, and wait for processes that do not load them.
        unset_hf_deepspeed_config()
    frozen = stage is not None and stage.lora is not None and stage.precision == "bf16" and not sharded()
    model, processor, family = load_parts(base_config(base, recipe, "bfloat16" if frozen else "float32"))
    return model, training_processor(processor, family, base), family


@dataclass(frozen=True, eq=False)
class StageRun:
    """All that a stage is trained from."""

    recipe: Recipe
    stage: TuningStage
    folder: Path
    base: StageBase
    mixed: Mixed
    arguments: TrainingArguments
    last: Path | None
    """The checkpoint to go on from."""


def train_stage(run: StageRun) -> None:
    """Train one stage and leave its weights, its processor and its record in its folder."""
    stage, folder, mixed, arguments = run.stage, run.folder, run.mixed, run.arguments
    model, processor, family = load_base(run.base.name, run.recipe, stage)
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


def _evaluator(run: StageRun, processor: Any, family: Family) -> Any:
    stage = run.stage
    if stage.evaluate is None:
        return None
    from dualfocus_eval.training.evaluation import TaskEvaluator

    model_args = {**run.recipe.taught, "pretrained": run.base.name, "batch_size": stage.micro_batch_size}
    return TaskEvaluator(stage.evaluate, model_args, processor, family, run.folder / "traces")


def _save(trainer: TuningTrainer, run: StageRun, processor: Any) -> None:
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
            whole, _, _ = load_base(run.base.name, run.recipe, None)
            PeftModel.from_pretrained(whole, folder / ADAPTER).merge_and_unload().save_pretrained(folder)
        processor.save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()
