"""How a stage runs on the processes that there are: transformers' settings, and what does not fit them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from transformers import TrainingArguments

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.processes import usable_processors
from dualfocus_eval.training.tuning import TuningPlan, TuningStage

__all__ = ["name_layers", "sharded", "tensorboard_in", "training_arguments"]

_PATIENCE = 6 * 3600
"""Seconds that processes wait for the one that measures the samples."""


def training_arguments(stage: TuningStage, plan: TuningPlan, folder: Path, report_to: str) -> TrainingArguments:
    """Trainer's; made before the model is loaded, which ZeRO-3 needs. Raises ``UserError`` for what does not fit."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the data loader forks
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and sharded("DEEPSPEED"):
        raise UserError("no GPU here, and DeepSpeed needs one: start with FSDP, which runs on CPUs too, or without")
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
        ddp_find_unused_parameters="vision_tower" in stage.trained,
        train_sampling_strategy="sequential",
        dataloader_num_workers=max(0, min(4, usable_processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)),
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        seed=plan.seed,
        data_seed=plan.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=stage.save_every,
        eval_strategy="no" if stage.evaluate is None else "steps",
        eval_steps=None if stage.evaluate is None else stage.evaluate.every,
        ddp_timeout=_PATIENCE,
        report_to=report_to,
        run_name=folder.name,
    )
    if sharded("FSDP"):
        _share_out(arguments.distributed_state)
    if stage.evaluate is not None and sharded():
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


def sharded(*kinds: str) -> bool:
    """Whether accelerate shares out the weights, by ``kinds`` or any; FSDP wants all of them in one precision."""
    names = [f"ACCELERATE_USE_{kind}" for kind in kinds or ("FSDP", "DEEPSPEED")]
    return any(os.environ.get(name, "false").lower() == "true" for name in names)


def name_layers(model: Any) -> None:
    """Take the layers that ``model`` has not got out of its list: FSDP shards by that list, and fails over LLaVA's,
    which names the text half of CLIP.
    """
    model._no_split_modules = set(model._no_split_modules or ()) & {type(module).__name__ for module in model.modules()}


def _share_out(state: PartialState) -> None:
    """Have accelerate do what it was asked for, which it otherwise leaves out without a word.

    It turns MULTI_GPU into FSDP and never MULTI_CPU, although FSDP itself runs on CPUs as well. The device is chosen by
    now, and nothing else follows from the name before that turn.
    """
    if state.distributed_type == DistributedType.NO:
        raise UserError("FSDP shares out weights over processes: start them with accelerate launch or torchrun")
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


@contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Where TensorBoard writes, unless the user's environment says: Trainer reads it there, and there alone."""
    name = "TENSORBOARD_LOGGING_DIR"
    chosen = os.environ.get(name)
    os.environ[name] = chosen or str(folder)
    try:
        yield
    finally:
        os.environ.pop(name)
        if chosen is not None:
            os.environ[name] = chosen
