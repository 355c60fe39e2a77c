"""What a stage of training costs, and the tables that say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dualfocus_eval.report.tables import Table
from dualfocus_eval.train.flops import Load, training_flops
from dualfocus_eval.train.memory import SHARDINGS, Memory, trainable, training_memory
from dualfocus_eval.train.sizes import ModelSize
from dualfocus_eval.train.tuning import TuningStage

__all__ = ["PEAKS", "UTILISATION", "Cost", "cost_table", "gpu_hours", "memory_table", "stage_cost"]

PEAKS = {"A100": 312e12, "H100": 989e12}
"""Operations per second in bf16 without sparsity, by the makers' data sheets."""
UTILISATION = 0.4
"""Share of the peak that training is taken to reach; recomputed operations count."""
_DEVICES = (1, 2, 4, 8, 16, 32, 64)
_SHOWN_DEVICES = 8


@dataclass(frozen=True)
class Cost:
    """Of one epoch."""

    samples: int
    tokens: int
    steps: int
    flops: float


def stage_cost(size: ModelSize, stage: TuningStage, groups: Iterable[tuple[float, Load]]) -> Cost:
    """The epoch of ``groups``: how many samples there are of each kind."""
    samples = tokens = flops = 0.0
    for count, load in groups:
        samples += count
        tokens += count * load.tokens
        flops += count * training_flops(size, stage, load).total
    return Cost(round(samples), round(tokens), -(-round(samples) // stage.batch_size), flops)


def gpu_hours(flops: float, gpu: str) -> float:
    """Hours of one GPU at `UTILISATION`."""
    return flops / (PEAKS[gpu] * UTILISATION) / 3600


def cost_table(title: str, size: ModelSize, stage: TuningStage, cost: Cost) -> Table:
    """Counts, operations and hours."""
    every, moved = sum(size.parameters.values()), trainable(size, stage)
    rows = [
        ("parameters", f"{every / 1e9:.2f} billion"),
        ("trained", f"{moved / 1e9:.3f} billion"),
        ("samples", f"{cost.samples:,}"),
        ("tokens", f"{cost.tokens / 1e6:,.1f} million"),
        ("steps", f"{cost.steps:,}"),
        ("FLOPs", f"{cost.flops:.2e}"),
        *((f"{gpu} hours", f"{gpu_hours(cost.flops, gpu):,.1f}") for gpu in PEAKS),
    ]
    note = f"GPU hours at {UTILISATION:.0%} of the peak, whatever the number of GPUs."
    return Table(title, ("", "estimate"), (tuple(rows),), (note,))


def memory_table(size: ModelSize, stage: TuningStage, longest: Load) -> Table:
    """GB on each device, by sharding and number of devices."""
    devices = [number for number in _DEVICES if stage.batch_size % (stage.micro_batch_size * number) == 0]
    totals = [
        (name, *(_gigabytes(training_memory(size, stage, name, number, longest).total) for number in devices))
        for name in SHARDINGS
    ]
    notes = [
        f"A batch of {stage.micro_batch_size} samples of {longest.tokens:,} tokens per device; the framework takes "
        "some GB beside.",
        *_parts(size, stage, longest, min(_SHOWN_DEVICES, devices[-1])),
    ]
    header = ("GB per device", *(f"{number} device{'s' * (number > 1)}" for number in devices))
    return Table("Memory", header, (tuple(totals),), tuple(notes))


def _parts(size: ModelSize, stage: TuningStage, longest: Load, devices: int) -> Sequence[str]:
    def line(memory: Memory) -> str:
        return ", ".join(f"{name} {_gigabytes(count)}" for name, count in vars(memory).items())

    return [f"{name} on {devices}: {line(training_memory(size, stage, name, devices, longest))}." for name in SHARDINGS]


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f}" if count < 1e11 else f"{count / 1e9:.0f}"
