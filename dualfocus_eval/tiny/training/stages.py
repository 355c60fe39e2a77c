"""Runs a training plan: one transformers Trainer per stage, then a checkpoint that loads like any other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainingArguments, set_seed

from dualfocus_eval.recipe import Recipe
from dualfocus_eval.tiny.training.collator import ConversationCollator, PatchCollator, Prepared, SampleEncoder
from dualfocus_eval.tiny.training.corpus import PHRASES, scene_corpus
from dualfocus_eval.tiny.training.from_nothing import build_model, build_processor, build_tokenizer
from dualfocus_eval.tiny.training.guidance import GuidedLoss, hand_over
from dualfocus_eval.tiny.training.patch_labeller import PatchLabeller, slot_maps, whiten_patches
from dualfocus_eval.tiny.training.patch_labels import PatchFrames
from dualfocus_eval.tiny.training.plan import Stage, TrainPlan
from dualfocus_eval.tiny.training.scene_conversations import SceneConversations
from dualfocus_eval.training.checkpoints import discard_incomplete, last_checkpoint
from dualfocus_eval.training.export import EXPORTED, export
from dualfocus_eval.training.finite import refuse_non_finite_weights
from dualfocus_eval.training.manifest import claim
from dualfocus_eval.training.notes import finish_stage, is_finished, read_stage, result_digest
from dualfocus_eval.training.trainer import ResumableTrainer, losses

__all__ = ["first_scene", "processor_from_scratch", "train"]

LossFunction = Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]
"""From a model and a batch to ``loss`` and its parts."""
WHITENING_FRAMES = 512
PATCH_HEADS = "patch_heads.safetensors"


def train(recipe: Recipe, plan: TrainPlan, out: Path) -> Path:
    """Train ``recipe`` by its ``plan`` into the folder ``out``; returns the checkpoint, ``out / "checkpoint"``.

    Every stage leaves its own checkpoint under ``out``; a stage that is already there is not run again. Raises
    ``UserError`` where a stage there is of another plan or damaged, `DivergedError` where a loss, gradient or weight is
    not finite.
    """
    set_seed(plan.seed)
    last = base = None
    log: list[dict[str, Any]] = []
    for number, stage in enumerate(plan.stages):
        folder = out / f"{number + 1}-{stage.name}"
        claim(folder, stage.name, _settings(plan, number, base))
        if not is_finished(folder):
            model, processor = _load(last, rounded=stage.rounded) if last else _from_scratch(plan)
            _run(stage, plan, model, processor, folder, last, start=first_scene(plan, number))
        log.append(read_stage(folder))
        last, base = folder, result_digest(folder)
    if last is None:
        raise AssertionError("a plan has at least one stage")
    model, processor = _load(last)
    return export(recipe, model, processor, out / "checkpoint", log)


def _settings(plan: TrainPlan, number: int, base: str | None) -> dict[str, Any]:
    """What decides the weights of a stage; ``base`` is the digest of the last stage's."""
    whole = {key: value for key, value in asdict(plan).items() if key != "stages"}
    return {**whole, **asdict(plan.stages[number]), "first_scene": first_scene(plan, number), "base": base}


def processor_from_scratch(plan: TrainPlan) -> Any:
    """The processor of the plan's model, its tokenizer trained on what scenes are asked and answered in."""
    return build_processor(build_tokenizer(scene_corpus(plan.prompt_set), PHRASES), plan.model)


def _from_scratch(plan: TrainPlan) -> tuple[Any, Any]:
    processor = processor_from_scratch(plan)
    return build_model(processor.tokenizer, plan.model), processor


def _load(folder: Path, *, rounded: bool = False) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    if rounded:
        # This also rounds the rotary frequencies, which a checkpoint does not store. The embedded checkpoint was
        # trained that way, so its weights would not come out again without it.
        model.to(EXPORTED).to(torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def first_scene(plan: TrainPlan, number: int) -> int:
    """Scenes are never repeated: each stage goes on where the one before it stopped."""
    return sum(stage.samples for stage in plan.stages[:number])


def _run(
    stage: Stage, plan: TrainPlan, model: Any, processor: Any, folder: Path, last: Path | None, start: int
) -> None:
    started = time.monotonic()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name.split(".") for part in stage.freeze)
    trained, loss_function, dataset, collator = _objective(stage, plan, model, processor, start)
    arguments = _arguments(stage, plan, folder, len(dataset))
    if last and (last / PATCH_HEADS).exists():
        _take_over(load_file(last / PATCH_HEADS), trained, stage)
    trainer = StageTrainer(
        loss_function=loss_function, model=trained, args=arguments, train_dataset=dataset, data_collator=collator
    )
    discard_incomplete(folder / "trainer")
    begun = last_checkpoint(folder / "trainer")
    trainer.train(resume_from_checkpoint=None if begun is None else str(begun))
    refuse_non_finite_weights(trained.named_parameters(), f"stage {folder.name}, at its end")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if isinstance(trained, PatchLabeller):
        save_file(trained.head_weights(), folder / PATCH_HEADS)
    record = {
        "stage": stage.name,
        "steps": trainer.state.global_step,
        "samples": stage.samples,
        "seconds": round(time.monotonic() - started),
        "losses": losses(trainer.state.log_history),
    }
    finish_stage(folder, record)


def _take_over(heads: dict[str, Tensor], trained: Any, stage: Stage) -> None:
    """The last stage's classifiers of patch labels go on as such, or as guided attention heads."""
    if isinstance(trained, PatchLabeller):
        trained.load_head_weights(heads)
    elif stage.guidance:
        hand_over(trained, slot_maps(heads))


class StageTrainer(ResumableTrainer):
    """Trainer with a loss of its own, whose parts are logged beside it."""

    def __init__(self, *, loss_function: LossFunction, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss_function = loss_function
        self.parts: dict[str, list[Tensor]] = {}

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """``loss`` of what the loss function returns; the other entries are its parts."""
        outputs = self.loss_function(model, inputs)
        for name in outputs.keys() - {"loss"}:
            self.parts.setdefault(name, []).append(outputs[name])
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the parts' means since the last log."""
        logs |= {name: float(torch.stack(values).mean()) for name, values in self.parts.items()}
        self.parts.clear()
        super().log(logs, *args, **kwargs)


def _objective(
    stage: Stage, plan: TrainPlan, model: Any, processor: Any, start: int
) -> tuple[Any, LossFunction, Any, Any]:
    """What is trained, with which loss, on which examples, and how they are batched."""
    shape, cores = plan.model, os.cpu_count() or 1
    if stage.objective == "patch_labels":
        grid = shape.image_size // shape.patch_size
        frames = PatchFrames(plan.scenes, start, stage.samples, shape.image_size, grid, stage.frames)
        dataset, collator = Prepared(frames, list, cores), PatchCollator(processor)
        if start == 0:
            whiten_patches(model.model, collator(dataset.examples[:WHITENING_FRAMES])["pixel_values"])
        return PatchLabeller(model.model, processor.tokenizer), _model_losses, dataset, collator
    conversations = SceneConversations(
        plan.scenes, start, stage.samples, stage.mix, prompt_set=plan.prompt_set, margin=plan.margin
    )
    dataset = Prepared(conversations, SampleEncoder(processor, shape.image_size), cores)
    return model, GuidedLoss(model, stage.guidance), dataset, ConversationCollator(processor)


def _model_losses(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = model(**inputs)
    return outputs


def _arguments(stage: Stage, plan: TrainPlan, folder: Path, examples: int) -> TrainingArguments:
    steps = -(-examples // stage.batch_size) * stage.epochs
    decay = int(stage.decay * steps)
    warmup = max(1, int(stage.warmup * steps))
    return TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=stage.batch_size,
        num_train_epochs=stage.epochs,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=warmup,
        lr_scheduler_kwargs={
            "num_decay_steps": decay,
            "decay_type": "linear",
            "num_stable_steps": steps - warmup - decay,
        },
        seed=plan.seed,
        data_seed=plan.seed,
        remove_unused_columns=False,
        logging_steps=min(50, steps),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=250,
        report_to="none",
    )
