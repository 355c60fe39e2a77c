"""What is measured, as steps in the order of their value: each takes seconds and stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.traces.record import Trace
from measurements.exactness import compare, random_checkpoint
from measurements.gpu.phases import phases
from measurements.gpu.rows import Agreement, Exactness, Phase, Row, Timing
from measurements.gpu.runs import Measured, Workload, large_checkpoint, measured, refuse_failures, run_questions
from measurements.performance import PREFIX_CACHE, SETTINGS
from measurements.performance_page import SINGLE
from measurements.plain_reference import reference
from measurements.random_models import ARCHITECTURES
from measurements.single_pass import single_pass

__all__ = ["FULL", "SMALL", "Plan", "Step", "steps"]

GIB = 1 << 30
MACRO = replace(SETTINGS, strategy="macro")
AGREEMENT_TOKENS = 12
"""Length of the answers that are compared in half precision: longer ones differ more often."""


@dataclass(frozen=True)
class Plan:
    """Sizes of what is measured."""

    device: str
    size: str
    """Of the large models; a key of `sized_models.SIZES`."""
    architectures: Sequence[str]
    """The small models."""
    conversations: int
    """Questions of the exactness proof for each small model; five rows each and setting."""
    loads: Mapping[int, int]
    """Questions to time at each batch size."""
    compared: int
    """Questions whose answers in half precision are compared, of each small model."""
    compared_large: int
    """The same of each large model."""
    sides: Mapping[str, int]
    """Width of the pictures in pixels for each large model."""
    large_cache: int = 32 * GIB
    """A prefix cache that holds every prefix of the largest batch; the other is what the engine has by default."""


FULL = Plan(
    device="cuda",
    size="7b",
    architectures=tuple(ARCHITECTURES),
    conversations=8,
    loads={1: 6, 8: 24, 32: 64},
    compared=8,
    compared_large=32,
    sides={"llava": 640, "qwen2_5_vl": 1120},
)
"""For one card of 80 GiB or more."""
SMALL = Plan(
    device="cpu",
    size="tiny",
    architectures=("llava", "qwen2_5_vl"),
    conversations=1,
    loads={1: 1, 2: 2},
    compared=2,
    compared_large=2,
    sides={"llava": 64, "qwen2_5_vl": 112},
)
"""The same steps in seconds, to try them out."""


@dataclass(frozen=True)
class Step:
    """A name, the kind of rows that it gives, and how to get them."""

    kind: type[Row]
    name: str
    run: Callable[[], Sequence[Row]]


def steps(plan: Plan) -> Iterator[Step]:
    """All steps, the most valuable first; of a large model those that need the same weights stand together."""
    for architecture in plan.architectures:
        yield Step(Exactness, architecture, partial(_exactness, plan, architecture))
    for per_image in (1, 6):
        yield _timing_step("llava", per_image, SINGLE, 1, partial(_single, plan, per_image))
        yield from _timings(plan, "llava", per_image)
    yield from _phases(plan, "llava")
    yield _large_agreement(plan, "llava", torch.bfloat16)
    for architecture in plan.architectures:
        for dtype in (torch.bfloat16, torch.float16):
            name = f"{architecture}, {_name(dtype)}"
            yield Step(Agreement, name, partial(_small_agreement, plan, architecture, dtype))
    yield from _timings(plan, "qwen2_5_vl", 1)
    yield from _phases(plan, "qwen2_5_vl")
    yield _large_agreement(plan, "qwen2_5_vl", torch.bfloat16)
    yield _large_agreement(plan, "llava", torch.float16)
    yield _large_agreement(plan, "qwen2_5_vl", torch.float16)


def _exactness(plan: Plan, architecture: str) -> list[Row]:
    checkpoint = random_checkpoint(architecture, torch.float32, plan.device)
    expected = reference(checkpoint, plan.conversations)
    settings = ((1, "off"), (3, "evicting"), (16, "on"))
    results = [compare(checkpoint, expected, batch, cache) for batch, cache in settings]
    return [
        Exactness(
            architecture,
            sum(result.rows for result in results),
            sum(result.tokens for result in results),
            max(result.worst for result in results),
            sum(result.parted for result in results),
            sum(len(result.wrong) for result in results),
            all(result.holds(exact=False) for result in results),
        )
    ]


def _timings(plan: Plan, architecture: str, per_image: int) -> Iterator[Step]:
    """The macro pathway alone and both passes at every batch size; where nothing else is shared, also with a prefix
    cache that holds a whole batch."""
    for system, settings in (("dualfocus, macro only", MACRO), ("dualfocus", SETTINGS)):
        for batch in plan.loads:
            large = (plan.large_cache,) if settings is SETTINGS and batch > per_image == 1 else ()
            for budget in (PREFIX_CACHE, *large):
                run = partial(_pipeline, plan, architecture, per_image, batch, budget, system)
                yield _timing_step(architecture, per_image, system, batch, run)


def _timing_step(architecture: str, per_image: int, system: str, batch: int, run: Callable[[], Sequence[Row]]) -> Step:
    return Step(Timing, f"{architecture}, {system}, {per_image} per image, batch {batch}", run)


def _pipeline(plan: Plan, architecture: str, per_image: int, batch: int, budget: int, system: str) -> list[Row]:
    checkpoint = _large(plan, architecture, torch.bfloat16)
    settings = MACRO if system != "dualfocus" else SETTINGS
    work = Workload.of(plan.loads[batch], per_image, plan.sides[architecture])
    run_questions(checkpoint, work.first(batch), batch, budget, settings)  # warm
    taken = measured(plan.device, lambda: run_questions(checkpoint, work, batch, budget, settings))
    traces, counters = taken.result
    refuse_failures(traces, counters, settings)
    reused = counters.tokens_reused / (counters.tokens_reused + counters.tokens_prefilled)
    return [_timing(checkpoint, system, per_image, batch, len(work.asked), taken, budget / GIB, reused)]


def _single(plan: Plan, per_image: int) -> list[Row]:
    checkpoint = _large(plan, "llava", torch.bfloat16)
    answer = single_pass(checkpoint.model, checkpoint.processor, plan.device)
    work = Workload.of(plan.loads[1], per_image, plan.sides["llava"])
    answer(work.first(1).asked)  # warm
    taken = measured(plan.device, lambda: answer(work.asked))
    return [_timing(checkpoint, SINGLE, per_image, 1, len(work.asked), taken)]


def _timing(
    checkpoint: Checkpoint,
    system: str,
    per_image: int,
    batch: int,
    count: int,
    taken: Measured[object],
    cache: float | None = None,
    reused: float | None = None,
) -> Timing:
    return Timing(checkpoint.name, system, per_image, batch, cache, count, taken.seconds / count, taken.peak, reused)


def _phases(plan: Plan, architecture: str) -> Iterator[Step]:
    for batch in (min(plan.loads), max(plan.loads)):
        yield Step(Phase, f"{architecture}, batch {batch}", partial(_phase_rows, plan, architecture, batch))


def _phase_rows(plan: Plan, architecture: str, batch: int) -> list[Phase]:
    work = Workload.of(plan.loads[batch], 1, plan.sides[architecture])
    return phases(_large(plan, architecture, torch.bfloat16), work, batch, plan.large_cache, plan.device)


def _large_agreement(plan: Plan, architecture: str, dtype: torch.dtype) -> Step:
    def run() -> list[Row]:
        work = Workload.of(plan.compared_large, 3, plan.sides[architecture], AGREEMENT_TOKENS)
        return _agreement(plan, _large(plan, architecture, dtype), work, tuple(plan.loads))

    return Step(Agreement, f"{architecture} {plan.size}, {_name(dtype)}", run)


def _small_agreement(plan: Plan, architecture: str, dtype: torch.dtype) -> list[Row]:
    work = Workload.of(plan.compared, 3, 64, AGREEMENT_TOKENS)
    return _agreement(plan, random_checkpoint(architecture, dtype, plan.device), work, tuple(plan.loads)[:2])


def _agreement(plan: Plan, checkpoint: Checkpoint, work: Workload, batches: Sequence[int]) -> list[Row]:
    """A row for every larger batch with the cache off and on, against the smallest batch with the cache off."""
    alone = _answers(run_questions(checkpoint, work, batches[0], 0)[0])
    if not any(alone):
        raise RuntimeError("no question has an answer one at a time without the prefix cache")
    rows: list[Row] = []
    for batch in batches[1:]:
        for cache, budget in (("off", 0),) if checkpoint.no_reuse else (("off", 0), ("on", plan.large_cache)):
            given = _answers(run_questions(checkpoint, work, batch, budget)[0])
            differing = sum(one != other for one, other in zip(given, alone, strict=True))
            name, setting = _name(checkpoint.model.dtype), f"batch {batch}, cache {cache}"
            rows.append(Agreement(checkpoint.name, name, setting, len(given), differing, given.count(None)))
    return rows


def _answers(traces: Sequence[Trace]) -> list[tuple[int, ...] | None]:
    """Token ids of every question's macro answer, grounding response and micro answer; None for what is missing."""
    found = (
        completion
        for trace in traces
        for completion in (trace.macro, trace.grounding and trace.grounding.response, trace.micro)
    )
    return [completion.token_ids if completion else None for completion in found]


def _large(plan: Plan, architecture: str, dtype: torch.dtype) -> Checkpoint:
    return large_checkpoint(architecture, plan.size, plan.device, dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
