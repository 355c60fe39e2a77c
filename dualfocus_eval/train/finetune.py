"""Training from a checkpoint: one transformers Trainer per stage, on as many processes as accelerate starts."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import TrainingArguments

from dualfocus_eval.data.curation.run import processors
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_parts
from dualfocus_eval.errors import UserError
from dualfocus_eval.families import Family
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.train.batches import EpochSamples, InstructionCollator
from dualfocus_eval.train.checkpoints import discard_incomplete, last_checkpoint
from dualfocus_eval.train.encoding import training_processor
from dualfocus_eval.train.export import export
from dualfocus_eval.train.manifest import claim, data_record, write_manifest
from dualfocus_eval.train.mixture import epoch, shares
from dualfocus_eval.train.parts import prepare_training
from dualfocus_eval.train.samples import Samples, measure
from dualfocus_eval.train.trainer import TuningTrainer
from dualfocus_eval.train.tuning import TuningPlan, TuningStage

__all__ = ["FinetuneResult", "Mixed", "finetune", "mix"]

logger = logging.getLogger(__name__)

_PATIENCE = 6 * 3600
"""Seconds that processes wait for the one that measures the samples."""
ADAPTER = "adapter"
"""Folder of a stage's low-rank adapters, beside the weights that they are merged into."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left."""

    checkpoint: Path
    unusable: int
    """Samples that could not be read; each is named in the run's folder."""


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
    processes do not fit the recipe.
    """
    base: str = plan.base
    log: list[dict[str, Any]] = []
    unusable = 0
    for number, stage in enumerate(plan.stages):
        folder = out / f"{number + 1}-{stage.name}"
        arguments = _arguments(stage, plan, folder, report_to)
        model, processor, family = _load(base, recipe, stage)
        with arguments.main_process_first(desc="measuring the samples"):
            mixed = mix(stage, plan.seed, data, processor, out / "samples")
            if arguments.should_save:
                record = data_record(stage.data, mixed.samples)
                claim(folder, plan, stage, record)
                write_manifest(out, recipe, plan, record, arguments.world_size)
                _show(stage, mixed)
                discard_incomplete(folder / "trainer")
        if not (folder / "stage.json").exists():
            _run(stage, model, processor, family, mixed, arguments, folder, base, recipe)
        log.append(json.loads((folder / "stage.json").read_text(encoding="utf-8")))
        unusable += sum(len(found.faults) for found in mixed.samples) + log[-1]["unreadable"]
        base = str(folder)
    checkpoint = out / "checkpoint"
    if arguments.should_save:
        model, processor, _ = _load(base, recipe, None)
        # Of several stages' adapters, none alone makes the checkpoint out of the base.
        adapter = Path(base) / ADAPTER if len(plan.stages) == 1 and plan.stages[0].lora else None
        export(recipe, model, processor, checkpoint, log, adapter=adapter)
        print(f"checkpoint: {checkpoint}")
    PartialState().wait_for_everyone()
    return FinetuneResult(checkpoint, unusable)


def _arguments(stage: TuningStage, plan: TuningPlan, folder: Path, report_to: str) -> TrainingArguments:
    """Trainer's; made before the model is loaded, which ZeRO-3 needs."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "runs"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the data loader forks
    on_cpu = not torch.accelerator.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        use_cpu=on_cpu,
        per_device_train_batch_size=stage.micro_batch_size,
        gradient_accumulation_steps=stage.accumulation(processes),
        num_train_epochs=1,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        lr_scheduler_type="constant_with_warmup" if stage.schedule == "constant" else stage.schedule,
        bf16=stage.precision == "bf16",
        # A vision tower in training has layers after the one whose features are used.
        ddp_find_unused_parameters="vision_tower" not in stage.freeze and stage.lora is None,
        train_sampling_strategy="sequential",
        dataloader_num_workers=min(4, processors() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) - 1),
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        seed=plan.seed,
        data_seed=plan.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=stage.save_every,
        eval_strategy="no" if stage.evaluate is None else "steps",
        eval_steps=None if stage.evaluate is None else stage.evaluate.every,
        ddp_timeout=_PATIENCE,
        report_to=report_to,
        run_name=folder.name,
    )
    if stage.evaluate is not None and _sharded():
        raise UserError(
            f"stage {stage.name}: evaluate needs whole weights on every process, which FSDP and DeepSpeed share out; "
            "take it out of the recipe and evaluate the checkpoint"
        )
    if arguments.n_gpu > 1:
        raise UserError(
            f"one process and {arguments.n_gpu} GPUs: start it with `accelerate launch --num_processes "
            f"{arguments.n_gpu} -m dualfocus_eval train ...`, or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return arguments


def _load(base: str, recipe: Recipe, stage: TuningStage | None) -> tuple[Any, Any, Family]:
    """``base`` in float32, or in bfloat16 where most of it stays as it is."""
    frozen = stage is not None and stage.lora is not None and stage.precision == "bf16" and not _sharded()
    config = EngineConfig(
        pretrained=base,
        device="cpu",
        dtype="bfloat16" if frozen else "float32",
        image_aspect=recipe.inference.get("image_aspect", "checkpoint"),
    )
    model, processor, family = load_parts(config)
    return model, training_processor(processor, family, base), family


def _sharded() -> bool:
    """Whether accelerate shares out the weights; FSDP wants all of them in one precision."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}", "false") == "true" for name in ("FSDP", "DEEPSPEED"))


def _show(stage: TuningStage, mixed: Mixed) -> None:
    for found, source in zip(mixed.samples, stage.data, strict=True):
        for fault in found.faults[:5]:
            logger.warning(f"{fault.where} is left out: {fault.reason}")
        if found.faults:
            logger.warning(f"{source.file}: {len(found.faults)} samples are left out; OUT/samples names all")
    logger.warning(
        f"stage {stage.name}: {len(mixed.chosen)} samples, {len(mixed.order) // stage.batch_size} steps; "
        f"{mixed.too_long} samples are longer than {stage.max_length} tokens and left out"
    )


def _run(
    stage: TuningStage,
    model: Any,
    processor: Any,
    family: Family,
    mixed: Mixed,
    arguments: TrainingArguments,
    folder: Path,
    base: str,
    recipe: Recipe,
) -> None:
    started = time.monotonic()
    set_seed(arguments.seed)
    steps = len(mixed.order) // stage.batch_size
    arguments.warmup_steps = math.ceil(stage.warmup * steps)
    rejected = folder / f"rejected.{arguments.process_index}.jsonl"
    trainer = TuningTrainer(
        model=prepare_training(model, family, stage),
        args=arguments,
        train_dataset=EpochSamples(mixed.samples, mixed.chosen, mixed.order, processor),
        data_collator=InstructionCollator(processor),
        eval_dataset=[] if stage.evaluate else None,
        evaluator=_evaluator(stage, processor, family, base, recipe, folder),
        rejected=rejected,
    )
    last = last_checkpoint(folder / "trainer")
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    _save(trainer, stage, processor, folder, base, recipe)
    if arguments.should_save:
        record = {
            "stage": stage.name,
            "steps": trainer.state.global_step,
            "samples": len(mixed.chosen),
            "too_long": mixed.too_long,
            "unreadable": len(_rejected(folder)),
            "seconds": round(time.monotonic() - started),
            "losses": [_losses(entry) for entry in trainer.state.log_history if "loss" in entry],
            "scores": [entry for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)],
        }
        (folder / "stage.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "trainer", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _evaluator(stage: TuningStage, processor: Any, family: Family, base: str, recipe: Recipe, folder: Path) -> Any:
    if stage.evaluate is None:
        return None
    from dualfocus_eval.train.evaluation import TaskEvaluator

    model_args = {**recipe.inference, "pretrained": base, "batch_size": stage.micro_batch_size}
    return TaskEvaluator(stage.evaluate, model_args, processor, family, folder / "traces")


def _save(trainer: TuningTrainer, stage: TuningStage, processor: Any, folder: Path, base: str, recipe: Recipe) -> None:
    """The stage's weights, whole and merged, wherever their shards lie."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        trained = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        if stage.lora is None:
            trained.save_pretrained(folder, state_dict=weights)
        else:
            from peft import PeftModel

            trained.save_pretrained(folder / ADAPTER, state_dict=weights)
            whole, _, _ = _load(base, recipe, None)
            PeftModel.from_pretrained(whole, folder / ADAPTER).merge_and_unload().save_pretrained(folder)
        processor.save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()


def _rejected(folder: Path) -> Sequence[str]:
    """Places of the samples that turned out unusable, each once."""
    lines = [line for path in folder.glob("rejected.*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted({json.loads(line)["where"] for line in lines})


def _losses(entry: dict[str, float]) -> dict[str, float]:
    return {name: entry[name] for name in ("step", "loss", "grounding_loss", "answer_loss") if name in entry}
