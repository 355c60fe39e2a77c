"""What a stage of training costs, and the tables that say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from dualfocus_eval.common.tables import Table
from dualfocus_eval.training.flops import Load, training_flops
from dualfocus_eval.training.memory import SHARDINGS, Memory, trainable, training_memory
from dualfocus_eval.training.sizes import ModelSize
from dualfocus_eval.training.tuning import TuningStage

__all__ = ["UTILISATION", "StageCost", "cost_table", "gpu_hours", "memory_tables", "stage_cost"]

PEAKS = {"A100": 312e12, "H100": 989e12}
"""Operations per second in bf16 without sparsity, by the makers' data sheets."""
UTILISATION = 0.4
"""Share of the peak that training is taken to reach; recomputed operations count."""
_DEVICES = (1, 2, 4, 8, 16, 32, 64)
_SHOWN_DEVICES = 8


@dataclass(frozen=True)
class StageCost:
    """Of one epoch."""

    samples: int
    tokens: int
    steps: int
    flops: float


def stage_cost(size: ModelSize, stage: TuningStage, groups: Iterable[tuple[float, Load]]) -> StageCost:
    """The epoch of ``groups``: how many samples there are of each kind."""
    samples = tokens = flops = 0.0
    for count, load in groups:
        samples += count
        tokens += count * load.tokens
        flops += count * training_flops(size, stage, load).total
    return StageCost(round(samples), round(tokens), -(-round(samples) // stage.batch_size), flops)


def gpu_hours(flops: float, gpu: str) -> float:
    """Hours of one GPU at `UTILISATION`."""
    return flops / (PEAKS[gpu] * UTILISATION) / 3600


def cost_table(title: str, size: ModelSize, stage: TuningStage, cost: StageCost) -> Table:
    """Counts, operations and hours."""
    every, moved = sum(size.parameters.values()), trainable(size, stage)
    rows = [
        ("parameters", _number(every)),
        ("trained", _number(moved)),
        ("samples", f"{cost.samples:,}"),
        ("tokens", _number(cost.tokens)),
        ("steps", f"{cost.steps:,}"),
        ("FLOPs", f"{cost.flops:.2e}"),
        *((f"{gpu} hours", f"{gpu_hours(cost.flops, gpu):,.3g}") for gpu in PEAKS),
    ]
    note = f"GPU hours at {UTILISATION:.0%} of the peak, whatever the number of GPUs."
    return Table(title, ("", "estimate"), (tuple(rows),), (note,))


def memory_tables(size: ModelSize, stage: TuningStage, longest: Load) -> tuple[Table, Table]:
    """GB on each device: in all by number of devices, and what they are made of on one node."""
    devices = [number for number in _DEVICES if stage.batch_size % (stage.micro_batch_size * number) == 0]
    shown = min(_SHOWN_DEVICES, devices[-1])
    totals, parts = [], []
    for name in SHARDINGS:
        memory = {number: training_memory(size, stage, name, number, longest) for number in devices}
        totals.append((name, *(_gigabytes(found.total) for found in memory.values())))
        parts.append((name, *(_gigabytes(count) for count in vars(memory[shown]).values())))
    note = (
        f"For {stage.micro_batch_size} samples of {longest.tokens:,} tokens; the framework takes some GB beside. none: "
        "whole on every device; the others: models/accelerate."
    )
    return (
        Table("Memory", ("GB per device on", *map(str, devices)), (tuple(totals),), (note,)),
        Table("", (f"GB per device on {shown}", *(part.name for part in fields(Memory))), (tuple(parts),)),
    )


def _number(count: float) -> str:
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if count >= unit:
            return f"{count / unit:,.2f}{name}"
    return f"{count:,.0f}"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g}"
