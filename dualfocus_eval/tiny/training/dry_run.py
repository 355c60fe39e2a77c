"""``dualfocus train RECIPE --dry-run`` of a recipe that trains from nothing: costs and samples, without a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

from rich.console import Console

from dualfocus_eval.common.tables import Table, print_table
from dualfocus_eval.tiny.training.collator import SampleEncoder
from dualfocus_eval.tiny.training.from_nothing import build_config
from dualfocus_eval.tiny.training.patch_labels import SLOTS, PatchFrames
from dualfocus_eval.tiny.training.plan import Stage, TrainPlan
from dualfocus_eval.tiny.training.scene_conversations import SceneConversations
from dualfocus_eval.tiny.training.stages import first_scene, processor_from_scratch
from dualfocus_eval.training.costs import StageCost, cost_table
from dualfocus_eval.training.encoding import IGNORED, Encoded
from dualfocus_eval.training.flops import Load, training_flops
from dualfocus_eval.training.memory import Memory, training_memory
from dualfocus_eval.training.showing import SHOWN, show_samples
from dualfocus_eval.training.sizes import ModelSize, model_size
from dualfocus_eval.training.tuning import Part, TuningStage

__all__ = ["dry_run_from_nothing"]

_PROBES = 128
"""Conversations that are looked at, spread evenly over the stage."""
_MODULES: dict[Part, str] = {
    "vision_tower": "vision_tower",
    "connector": "multi_modal_projector",
    "language_model": "language_model",
}
"""What a stage's ``freeze`` calls a part."""
_NAMED_SLOTS = tuple(slot for slot in SLOTS if slot not in ("x1", "y1", "x2", "y2"))


def dry_run_from_nothing(plan: TrainPlan, console: Console) -> None:
    """Print every stage's estimates and three of its samples. Scenes are rendered as training would render them."""
    processor = processor_from_scratch(plan)
    size = model_size(build_config(processor.tokenizer, plan.model))
    for number, stage in enumerate(plan.stages):
        if stage.objective == "patch_labels":
            _patch_labels(stage, plan, number, size, console)
        else:
            _conversations(stage, plan, number, size, processor, console)


def _patch_labels(stage: Stage, plan: TrainPlan, number: int, size: ModelSize, console: Console) -> None:
    grid = plan.model.image_size // plan.model.patch_size
    frames = PatchFrames(
        plan.scenes, first_scene(plan, number), stage.samples, plan.model.image_size, grid, stage.frames
    )
    load = Load(tokens=0, images=1, image_tokens=grid**2, targets=0)
    costed = _as_tuning(stage, language_model=False)
    # One linear map per slot but the first reads every patch's features; backward costs twice that.
    maps = 3 * 2 * (len(SLOTS) - 1) * size.text.width**2 * load.image_tokens
    examples = stage.samples * sum(stage.frames.values())
    flops = training_flops(size, costed, load).total + maps
    _print_costs(stage, size, costed, load, _cost(stage, examples, load.image_tokens, flops), console)
    console.print(
        "What is trained on: the labels of an image's patches. Some images, with how many patches have which:"
    )
    for image in [image for scene in range(min(SHOWN, stage.samples)) for image in frames[scene]][:SHOWN]:
        console.print()
        console.print(_labels(image["labels"]), markup=False, soft_wrap=True)


def _conversations(
    stage: Stage, plan: TrainPlan, number: int, size: ModelSize, processor: Any, console: Console
) -> None:
    scenes = SceneConversations(
        plan.scenes, first_scene(plan, number), stage.samples, stage.mix, prompt_set=plan.prompt_set, margin=plan.margin
    )
    encode = SampleEncoder(processor, plan.model.image_size)
    step = -(-stage.samples // _PROBES)
    probes = [example for index in range(0, stage.samples, step) for example in encode(scenes[index])]
    loads = [_load(example, int(processor.image_token_id)) for example in probes]
    costed = _as_tuning(stage, language_model=True)
    tokens = sum(load.tokens for load in loads) / len(loads)
    flops = sum(training_flops(size, costed, load).total for load in loads) / len(loads)
    longest = max(loads, key=lambda load: load.tokens)
    _print_costs(stage, size, costed, longest, _cost(stage, stage.samples, tokens, flops), console)
    console.print(f"Tokens, FLOPs and the longest sample are those of {len(probes)} samples.")
    show_samples([_encoded(example) for example in probes], processor, console)


def _as_tuning(stage: Stage, *, language_model: bool) -> TuningStage:
    """``stage`` in the terms of the cost formulas; without ``language_model`` that part only lends its embeddings."""
    frozen = [part for part, module in _MODULES.items() if module in stage.freeze]
    return TuningStage(
        name=stage.name,
        objective="instructions",
        data=(),
        batch_size=stage.batch_size,
        micro_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        freeze=(*frozen, *(() if language_model or "language_model" in frozen else ("language_model",))),
        precision="fp32",
        gradient_checkpointing=False,
    )


def _cost(stage: Stage, examples: int, tokens: float, flops: float) -> StageCost:
    """Of all epochs; ``tokens`` and ``flops`` are an example's."""
    steps = -(-examples // stage.batch_size) * stage.epochs
    seen = examples * stage.epochs
    return StageCost(examples, round(seen * tokens), steps, seen * flops)


def _print_costs(
    stage: Stage, size: ModelSize, costed: TuningStage, longest: Load, cost: StageCost, console: Console
) -> None:
    print_table(cost_table(f"Stage {stage.name}", size, costed, cost), console)
    memory = training_memory(size, costed, "none", 1, longest)
    rows = [(part.name, f"{getattr(memory, part.name) / 1e6:,.0f}") for part in fields(Memory)]
    note = f"For a batch of {stage.batch_size} of the longest; the framework takes some hundred MB beside."
    print_table(Table("Memory", ("", "MB"), ((*rows, ("in all", f"{memory.total / 1e6:,.0f}")),), (note,)), console)


def _load(example: dict[str, Any], image_token: int) -> Load:
    ids, labels = example["input_ids"], example["labels"]
    return Load(len(ids), len(example["images"]), int((ids == image_token).sum()), int((labels != IGNORED).sum()))


def _encoded(example: dict[str, Any]) -> Encoded:
    turns = example["turns"]
    return Encoded(example["input_ids"], example["labels"], example["grounding"][turns] & (turns >= 0))


def _labels(labels: Any) -> str:
    """How many patches of (patches, slots) have which label, slot by slot, coordinates left out."""
    found = []
    for slot in _NAMED_SLOTS:
        codes = labels[:, list(SLOTS).index(slot)]
        counts = Counter(SLOTS[slot][code].strip() for code in codes[codes != IGNORED])
        if counts:
            found.append(f"{slot}: " + ", ".join(f"[{word}] {count}" for word, count in counts.most_common()))
    return "; ".join(found)
