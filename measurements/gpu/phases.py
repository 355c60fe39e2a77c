"""Time per phase on a device that works on its own: whoever reads the clock waits for the device first.

The engine reads the clock at the beginning and at the end of every phase, without waiting: on a GPU its counters then
blame one phase for another's work. Here the clock itself waits, so the engine needs no second mode.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any
from unittest import mock

from dualfocus_eval.engines.checkpoint import Checkpoint
from measurements.gpu.rows import Phase
from measurements.gpu.runs import Workload, finish, refuse_failures, run_questions

__all__ = ["phases"]

PHASES = ("preprocess", "vision", "prefill", "decode")
"""Of the engine's counters; they do not overlap."""


def phases(checkpoint: Checkpoint, work: Workload, batch: int, budget: int, device: str) -> list[Phase]:
    """A row per phase of a run, one for what lies between them (the pipeline, rendering), and one for all."""
    refuse_failures(*run_questions(checkpoint, work.first(batch), batch, budget))  # warm
    with _waiting_clock(device), _seconds_inside(checkpoint) as inside:
        began = time.perf_counter()
        traces, counters = run_questions(checkpoint, work, batch, budget)
        total = time.perf_counter() - began
    refuse_failures(traces, counters)
    seconds = {phase: counters.seconds.get(phase, 0.0) for phase in PHASES}
    seconds["between"] = total - sum(seconds.values())
    seconds["all"] = total
    inside["all"] = sum(inside.values())

    def row(phase: str) -> Phase:
        spent = seconds[phase]
        outside = 1 - inside[phase] / spent if phase in inside and spent else None
        return Phase(checkpoint.name, batch, phase, spent / len(work.asked), spent / total, outside)

    return [row(phase) for phase in seconds]


@contextmanager
def _waiting_clock(device: str) -> Iterator[None]:
    clock = time.perf_counter

    def waiting() -> float:
        finish(device)
        return clock()

    with mock.patch.object(time, "perf_counter", waiting):
        yield


@contextmanager
def _seconds_inside(checkpoint: Checkpoint) -> Iterator[dict[str, float]]:
    """Seconds inside the model's forward passes by phase; only the outermost of nested modules counts."""
    model, family = checkpoint.model, checkpoint.family
    inside = {"vision": 0.0, "prefill": 0.0, "decode": 0.0}
    begun: list[float] = []

    def enter(module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        begun.append(time.perf_counter())

    def leave(module: Any, args: Any, kwargs: Mapping[str, Any], output: Any, *, vision: bool) -> None:
        spent = time.perf_counter() - begun.pop()
        if not begun:
            width = 0 if vision else kwargs["inputs_embeds"].shape[1]
            inside["vision" if vision else "prefill" if width > 1 else "decode"] += spent

    encoders = [reduce(getattr, path.split("."), model) for path in (family.vision_tower, family.connector)]
    hooks = []
    for module, vision in ((model, False), *((encoder, True) for encoder in encoders)):
        hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(partial(leave, vision=vision), with_kwargs=True))
    try:
        yield inside
    finally:
        for hook in hooks:
            hook.remove()
