"""Runs a training plan: one transformers Trainer per stage, then a checkpoint that loads like any other."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from dualfocus_eval import __version__
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.train.collator import ConversationCollator, PatchCollator, Prepared, SampleEncoder
from dualfocus_eval.train.conversations import SceneConversations
from dualfocus_eval.train.corpus import PHRASES, scene_corpus
from dualfocus_eval.train.patch_labels import PatchFrames, PatchLabeller, whiten_patches
from dualfocus_eval.train.plan import Stage, TrainPlan, train_plan
from dualfocus_eval.train.scratch import build_model, build_processor, build_tokenizer

__all__ = ["train"]

WHITENING_FRAMES = 512


def train(recipe: Recipe, out: Path) -> Path:
    """Train ``recipe`` into the folder ``out`` and return the checkpoint's path, ``out / "checkpoint"``.

    Every stage leaves its own checkpoint under ``out``; a stage that is already there is not run again.
    """
    plan = train_plan(recipe)
    set_seed(plan.seed)
    last = None
    log: list[dict[str, Any]] = []
    for number, stage in enumerate(plan.stages):
        folder = out / f"{number + 1}-{stage.name}"
        if not (folder / "stage.json").exists():
            model, processor = _load(last) if last else _from_scratch(plan)
            _run(stage, plan, model, processor, folder, first_scene=_first_scene(plan, number))
        log.append(json.loads((folder / "stage.json").read_text(encoding="utf-8")))
        last = folder
    if last is None:
        raise AssertionError("a plan has at least one stage")
    return _export(recipe, last, out / "checkpoint", log)


def _from_scratch(plan: TrainPlan) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(scene_corpus(plan.wording), PHRASES)
    return build_model(tokenizer, plan.model), build_processor(tokenizer, plan.model)


def _load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def _first_scene(plan: TrainPlan, number: int) -> int:
    """Scenes are never repeated: each stage goes on where the one before it stopped."""
    return sum(stage.samples for stage in plan.stages[:number])


def _run(stage: Stage, plan: TrainPlan, model: Any, processor: Any, folder: Path, first_scene: int) -> None:
    started = time.monotonic()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name.split(".") for part in stage.freeze)
    trained, dataset, collator = _objective(stage, plan, model, processor, first_scene)
    arguments = _arguments(stage, plan, folder, len(dataset))
    trainer = Trainer(model=trained, args=arguments, train_dataset=dataset, data_collator=collator)
    trainer.train(
        resume_from_checkpoint=get_last_checkpoint(folder / "trainer") if (folder / "trainer").exists() else None
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    record = {
        "stage": stage.name,
        "steps": trainer.state.global_step,
        "samples": stage.samples,
        "seconds": round(time.monotonic() - started),
        "losses": [[entry["step"], round(entry["loss"], 4)] for entry in trainer.state.log_history if "loss" in entry],
    }
    (folder / "stage.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def _objective(stage: Stage, plan: TrainPlan, model: Any, processor: Any, first_scene: int) -> tuple[Any, Any, Any]:
    """What is trained, on which examples, and how they are batched."""
    shape, cores = plan.model, os.cpu_count() or 1
    if stage.objective == "patch_labels":
        grid = shape.image_size // shape.patch_size
        frames = PatchFrames(plan.scenes, first_scene, stage.samples, shape.image_size, grid, charts=stage.charts)
        dataset, collator = Prepared(frames, list, cores), PatchCollator(processor)
        if first_scene == 0:
            whiten_patches(model.model, collator(dataset.examples[:WHITENING_FRAMES])["pixel_values"])
        return PatchLabeller(model.model, processor.tokenizer), dataset, collator
    conversations = SceneConversations(
        plan.scenes, first_scene, stage.samples, stage.mix, wording=plan.wording, margin=plan.margin
    )
    return (
        model,
        Prepared(conversations, SampleEncoder(processor, shape.image_size), cores),
        ConversationCollator(processor),
    )


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
        logging_steps=50,
        save_strategy="steps",
        save_steps=250,
        save_total_limit=1,
        report_to="none",
    )


def _export(recipe: Recipe, trained: Path, target: Path, log: list[dict[str, Any]]) -> Path:
    """The final weights in bfloat16 with processor, chat template, ``dualfocus.json`` and the stages' losses."""
    model, processor = _load(trained)
    model.to(torch.bfloat16)
    for config in (model.config.text_config, model.config.vision_config):
        config.dtype = torch.bfloat16
    model.save_pretrained(target)
    processor.save_pretrained(target)
    _to_hub_layout(target / "model.safetensors")
    settings = {"inference": dict(recipe.inference), "provenance": _provenance(recipe, log)}
    (target / "dualfocus.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (target / "training.json").write_text(json.dumps(log) + "\n", encoding="utf-8")
    return target


def _to_hub_layout(path: Path) -> None:
    """Name the vision encoder's weights as the hub's llava-hf checkpoints and vLLM do; transformers reads both."""
    weights = load_file(path)
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        if name.startswith("vision_tower.")
        else name: value
        for name, value in weights.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


def _provenance(recipe: Recipe, log: list[dict[str, Any]]) -> dict[str, Any]:
    import transformers

    return {
        "recipe": recipe.path.name,
        "dualfocus_eval": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "stages": [{key: entry[key] for key in ("stage", "steps", "samples", "seconds")} for entry in log],
    }
