"""Runs a training plan: one transformers Trainer per stage, then a checkpoint that loads like any other."""

from __future__ import annotations

import json
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

from dualfocus_eval.errors import UserError
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.train.checkpoints import discard_incomplete, last_checkpoint
from dualfocus_eval.train.collator import ConversationCollator, PatchCollator, Prepared, SampleEncoder
from dualfocus_eval.train.conversations import SceneConversations
from dualfocus_eval.train.corpus import PHRASES, scene_corpus
from dualfocus_eval.train.export import export
from dualfocus_eval.train.finite import refuse_non_finite_weights
from dualfocus_eval.train.guidance import GuidedLoss, hand_over
from dualfocus_eval.train.patch_labels import PatchFrames, PatchLabeller, slot_maps, whiten_patches
from dualfocus_eval.train.plan import Stage, TrainPlan
from dualfocus_eval.train.scratch import build_model, build_processor, build_tokenizer
from dualfocus_eval.train.trainer import ResumableTrainer, losses

__all__ = ["train"]

LossFunction = Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]
"""From a model and a batch to ``loss`` and its parts."""
WHITENING_FRAMES = 512
PATCH_HEADS = "patch_heads.safetensors"


def train(recipe: Recipe, plan: TrainPlan, out: Path) -> Path:
    """Train ``recipe`` by its ``plan`` into the folder ``out``; returns the checkpoint, ``out / "checkpoint"``.

    Every stage leaves its own checkpoint under ``out``; a stage that is already there is not run again.
    """
    set_seed(plan.seed)
    last = None
    log: list[dict[str, Any]] = []
    for number, stage in enumerate(plan.stages):
        folder = out / f"{number + 1}-{stage.name}"
        _claim(folder, stage)
        if not (folder / "stage.json").exists():
            model, processor = _load(last) if last else _from_scratch(plan)
            _run(stage, plan, model, processor, folder, last, first_scene=_first_scene(plan, number))
        log.append(json.loads((folder / "stage.json").read_text(encoding="utf-8")))
        last = folder
    if last is None:
        raise AssertionError("a plan has at least one stage")
    model, processor = _load(last)
    return export(recipe, model, processor, out / "checkpoint", log)


def _claim(folder: Path, stage: Stage) -> None:
    """Note the stage's settings in its folder. Raises ``UserError`` where other settings have been at work there."""
    path, settings = folder / "settings.json", json.dumps(asdict(stage), indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise UserError(f"{folder} holds stage {stage.name} under other settings: delete it, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")


def _from_scratch(plan: TrainPlan) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(scene_corpus(plan.wording), PHRASES)
    return build_model(tokenizer, plan.model), build_processor(tokenizer, plan.model)


def _load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def _first_scene(plan: TrainPlan, number: int) -> int:
    """Scenes are never repeated: each stage goes on where the one before it stopped."""
    return sum(stage.samples for stage in plan.stages[:number])


def _run(
    stage: Stage, plan: TrainPlan, model: Any, processor: Any, folder: Path, last: Path | None, first_scene: int
) -> None:
    started = time.monotonic()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name.split(".") for part in stage.freeze)
    trained, loss_function, dataset, collator = _objective(stage, plan, model, processor, first_scene)
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
    (folder / "stage.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


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
    stage: Stage, plan: TrainPlan, model: Any, processor: Any, first_scene: int
) -> tuple[Any, LossFunction, Any, Any]:
    """What is trained, with which loss, on which examples, and how they are batched."""
    shape, cores = plan.model, os.cpu_count() or 1
    if stage.objective == "patch_labels":
        grid = shape.image_size // shape.patch_size
        frames = PatchFrames(plan.scenes, first_scene, stage.samples, shape.image_size, grid, stage.frames)
        dataset, collator = Prepared(frames, list, cores), PatchCollator(processor)
        if first_scene == 0:
            whiten_patches(model.model, collator(dataset.examples[:WHITENING_FRAMES])["pixel_values"])
        return PatchLabeller(model.model, processor.tokenizer), _model_losses, dataset, collator
    conversations = SceneConversations(
        plan.scenes, first_scene, stage.samples, stage.mix, wording=plan.wording, margin=plan.margin
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
