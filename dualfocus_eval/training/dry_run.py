"""``dualfocus train RECIPE --dry-run``: what training would cost, and what it would train on; no weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.tables import Table, print_line, print_table
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.batches import EpochSamples, Example
from dualfocus_eval.training.costs import StageCost, cost_table, memory_tables, stage_cost
from dualfocus_eval.training.encoding import IGNORED, training_processor
from dualfocus_eval.training.finetune import check_plan
from dualfocus_eval.training.flops import Load
from dualfocus_eval.training.mixture import FILLER, Mixed, mix
from dualfocus_eval.training.showing import show_samples
from dualfocus_eval.training.sizes import model_size
from dualfocus_eval.training.tuning import TuningPlan, TuningStage

__all__ = ["dry_run"]

_PROBES = 128
"""Samples whose images are looked at, spread evenly over the epoch."""
_NAMED = 5
"""Unusable samples that are named."""


def dry_run(recipe: Recipe, plan: TuningPlan, data: Path, out: Path, console: Console) -> int:
    """Print every stage's estimates and three of its samples; returns how many samples could not be read.

    The samples are measured below ``out``, where the run itself then finds them. Raises ``UserError`` where the base or
    the data do not fit the recipe.
    """
    check_plan(plan, data)
    config, processor, family = load_processor(EngineConfig(plan.base, device="cpu", **recipe.image_options))
    processor = training_processor(processor, family, plan.base)
    size = model_size(config)
    unusable = 0
    for stage in plan.stages:
        mixed = mix(stage, plan.seed, data, processor, out / "samples")
        unusable += sum(len(found.faults) for found in mixed.samples)
        probes = _probes(stage, mixed, processor)
        loads = [_load(example, int(processor.image_token_id)) for example in probes]
        tokens = sum(int(mixed.samples[source].column("length")[row]) for source, row in mixed.chosen)
        # Operations go with tokens more than with samples, and the tokens of all samples are known.
        share = tokens / sum(load.tokens for load in loads)
        flops = stage_cost(size, stage, [(share, load) for load in loads]).flops
        cost = StageCost(len(mixed.chosen), tokens, len(mixed.order) // stage.batch_size, flops)
        print_table(_data_table(stage, mixed), console)
        for fault in [fault for found in mixed.samples for fault in found.faults][:_NAMED]:
            print_line(f"{fault.where} is left out: {fault.reason}", console, "red")
        print_table(cost_table(f"Stage {stage.name}", size, stage, cost), console)
        for table in memory_tables(size, stage, max(loads, key=lambda load: load.tokens)):
            print_table(table, console)
        show_samples([example.encoded for example in probes], processor, console)
    return unusable


def _probes(stage: TuningStage, mixed: Mixed, processor: Any) -> list[Example]:
    """Samples of the epoch with their images, the longest among them; unreadable ones are passed over."""
    lengths = [found.column("length") for found in mixed.samples]
    longest = max(range(len(mixed.chosen)), key=lambda place: lengths[mixed.chosen[place][0]][mixed.chosen[place][1]])
    there = [place for place in mixed.order if place not in (FILLER, longest)]
    whole = EpochSamples(mixed.samples, mixed.chosen, [longest, *there[:: -(-len(there) // _PROBES) or 1]], processor)
    read = [whole[index] for index in range(len(whole))]
    found = [example for example in read if isinstance(example, Example)]
    if not found:
        first = next(example for example in read if isinstance(example, Rejected))
        raise UserError(
            f"stage {stage.name}: none of {len(read)} samples that were tried has readable images; "
            f"{first.where}: {first.reason}"
        )
    return found


def _load(example: Example, image_token: int) -> Load:
    ids, labels = example.encoded.input_ids, example.encoded.labels
    return Load(len(ids), len(example.images), int((ids == image_token).sum()), int((labels != IGNORED).sum()))


def _data_table(stage: TuningStage, mixed: Mixed) -> Table:
    rows = []
    for number, (source, found) in enumerate(zip(stage.data, mixed.samples, strict=True)):
        here = [row for place, row in mixed.chosen if place == number]
        lengths, targets = found.column("length")[here], found.column("targets")[here]
        rows.append(
            (
                source.file,
                f"{len(here):,}",
                f"{lengths.mean():,.0f}",
                f"{targets.mean():,.0f}",
                f"{len(found.faults):,}",
            )
            if here
            else (source.file, "0", "-", "-", f"{len(found.faults):,}")
        )
    note = f"{mixed.too_long:,} samples are longer than {stage.max_length:,} tokens and left out."
    header = ("", "samples", "tokens each", "of them trained", "unusable")
    return Table("Data", header, (tuple(rows),), (note,))
