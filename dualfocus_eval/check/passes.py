"""Both passes over the probes, as an evaluation makes them, with every engine call and its results kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dualfocus_eval.check.metering import Meter, Usage
from dualfocus_eval.check.probes import Probe
from dualfocus_eval.check.regions import with_region
from dualfocus_eval.engines.attention import AttendingEngine, AttentionRequest, ImageAttention
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.comparison import decide
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.passes import check, first_pass, second_pass
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Decided, Failed, MicroOnly, Pair, Unzoomed, Zoomed

__all__ = ["Call", "Passes", "run_passes"]

FIRST, SECOND, SCORING = "first pass", "second pass", "scoring"


@dataclass(frozen=True)
class Call:
    """One call of an engine: what was asked of it, and what came of each request."""

    generated: Sequence[tuple[GenerateRequest, Completion | Failure]] = ()
    scored: Sequence[tuple[ScoreRequest, Score | Failure]] = ()


@dataclass
class _Recorder:
    """An engine that keeps every call."""

    engine: Engine
    calls: list[Call] = field(default_factory=list)

    @property
    def counters(self) -> Counters:
        return self.engine.counters

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        results = self.engine.generate(requests)
        self.calls.append(Call(generated=list(zip(requests, results, strict=True))))
        return results

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        results = self.engine.score(requests)
        self.calls.append(Call(scored=list(zip(requests, results, strict=True))))
        return results

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        return self.engine.continuation(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        return self.engine.encoded_size(picture)


@dataclass
class _AttendingRecorder(_Recorder):
    """The same for one that can read attention, which is not kept."""

    engine: AttendingEngine

    def attention_problem(self, layer: int | None) -> str | None:
        return self.engine.attention_problem(layer)

    def attend(self, requests: Sequence[AttentionRequest], layer: int | None = None) -> list[ImageAttention | Failure]:
        return self.engine.attend(requests, layer)


@dataclass(frozen=True)
class Passes:
    """What became of the probes, in their order."""

    looked: Sequence[Failed | Unzoomed | Zoomed]
    """After the first pass."""
    zoomed: Sequence[Failed | Unzoomed | Zoomed]
    """The same, with a region for those whose response had none."""
    answered: Sequence[Failed | Unzoomed | MicroOnly | Pair]
    """After the second."""
    decided: Sequence[Decided]
    """Those with two answers, after scoring."""
    calls: Sequence[Call]
    usage: Mapping[str, Usage]
    """By the name of the pass."""


def run_passes(probes: Sequence[Probe], engine: RunEngine, settings: Settings, batch_size: int) -> Passes:
    """Answer the probes in two passes, ``batch_size`` of them together, and score the candidates that differ.

    Where the model names no region, the second pass looks at a known one, so that both passes are always seen.
    """
    _warm_up(probes, engine)
    recorder = _AttendingRecorder(engine) if isinstance(engine, AttendingEngine) else _Recorder(engine)
    meter = Meter(engine)
    looked: list[Failed | Unzoomed | Zoomed] = []
    zoomed: list[Failed | Unzoomed | Zoomed] = []
    answered: list[Failed | Unzoomed | MicroOnly | Pair] = []
    decided: list[Decided] = []
    for begin in range(0, len(probes), batch_size):
        batch = probes[begin : begin + batch_size]
        with meter.measuring(FIRST):
            first = first_pass([check(one.question, settings) for one in batch], recorder, settings, macro=True)
        placed = [with_region(state, probe, settings) for state, probe in zip(first, batch, strict=True)]
        with meter.measuring(SECOND):
            second = second_pass(placed, recorder, settings)
        with meter.measuring(SCORING):
            decided += decide([state for state in second if isinstance(state, Pair)], recorder, settings)
        looked += first
        zoomed += placed
        answered += second
    return Passes(looked, zoomed, answered, decided, recorder.calls, meter.usage)


def _warm_up(probes: Sequence[Probe], engine: RunEngine) -> None:
    """A first forward pass costs what later ones do not; it leaves nothing in the engine's caches."""
    question = next((probe.question for probe in probes if not probe.question.failure), None)
    ways = list(engine.other_ways().values())
    if question and ways:
        ways[-1]().generate([GenerateRequest(macro_conversation(question), 2)])
