"""Running questions through a checkpoint on a device, with what it took."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from measurements.performance import SETTINGS
from measurements.performance_model import ANSWER_TOKENS, ScriptedEngine, questions
from measurements.sized_models import build

__all__ = ["Measured", "Workload", "finish", "large_checkpoint", "measured", "refuse_failures", "run_questions"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Workload:
    """Questions, and the text that the grounding response of each Q1 is read as."""

    asked: Sequence[Question]
    boxes: Mapping[str, str]

    @classmethod
    def of(cls, count: int, per_image: int, side: int, answer_tokens: int = ANSWER_TOKENS) -> Workload:
        """``count`` questions, ``per_image`` for each picture of ``side`` pixels."""
        images = -(-count // per_image)
        asked, boxes = questions(images, per_image, 0, side=side, answer_tokens=answer_tokens)
        return cls(asked[:count], boxes)

    def first(self, count: int) -> Workload:
        """The first ``count`` questions."""
        return Workload(self.asked[:count], self.boxes)


@dataclass(frozen=True)
class Measured(Generic[T]):
    """What a call returned and took."""

    result: T
    seconds: float
    peak: float | None
    """See `rows.Timing.peak`."""


@functools.lru_cache(maxsize=1)
def large_checkpoint(architecture: str, size: str, device: str, dtype: torch.dtype) -> Checkpoint:
    """A sized random model on ``device``; the latest one is kept."""
    model, processor = build(architecture, size, device, dtype)
    # The digest keys stored answers, of which there are none; it would bring all the weights to the CPU.
    return prepare(model, processor, FAMILIES[architecture], f"{architecture} {size}", digest="random")


def run_questions(
    checkpoint: Checkpoint, work: Workload, batch: int, budget: int, settings: Settings = SETTINGS
) -> tuple[list[Trace], Counters]:
    """Answer ``batch`` questions at a time by a fresh engine, whose prefix cache takes ``budget`` bytes."""
    # Two conversations of each question.
    engine = ScriptedEngine(checkpoint, 2 * batch, budget, work.boxes)
    traces: list[Trace] = []
    for start in range(0, len(work.asked), batch):
        traces += answer(work.asked[start : start + batch], engine, settings)
    return traces, engine.counters


def refuse_failures(traces: Sequence[Trace], counters: Counters, settings: Settings = SETTINGS) -> None:
    """Raise RuntimeError unless every question was answered in both passes (or by the macro pathway alone, where the
    strategy is that) in batches as large as asked for."""
    if counters.batch_halvings:
        raise RuntimeError("out of memory: a batch had to be halved")
    for trace in traces:
        failure = trace.error or trace.cause
        if failure is not None:
            raise RuntimeError(f"{failure.kind}: {failure.message}")
        if settings.strategy == "dualfocus" and not (trace.micro and trace.scores):
            raise RuntimeError(f"not answered in two scored passes: {trace.fallback or trace.decision}")


def measured(device: str, call: Callable[[], T]) -> Measured[T]:
    """Call, and wait for the device before and after."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    finish(device)
    began = time.perf_counter()
    result = call()
    finish(device)
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else None
    return Measured(result, seconds, peak)


def finish(device: str) -> None:
    """Wait until ``device`` has done all its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
