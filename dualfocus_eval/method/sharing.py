"""The same questions under several settings: whatever the settings have in common is computed once.

The questions of a batch are answered under one setting after the other while the engine still holds the states of their
images. A request that equals an earlier one, such as that for the macro answer, gets the earlier result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
from dualfocus_eval.method.passes import macro_request
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Cost, Trace
from dualfocus_eval.traces.store import TraceStore

__all__ = ["SharingEngine", "StoredRun", "answer_under_all"]

RequestT = TypeVar("RequestT", bound=Hashable)
_Work = Mapping[str, float]
"""Numbers of `Counters` by name; the seconds of each phase too."""
_SECONDS = "seconds of "


@dataclass(frozen=True)
class StoredRun:
    """What tells one run from another of the same model."""

    settings: Settings
    store: TraceStore
    fitted: SelectionRule | None = None
    """The calibrated choice that ``settings.selection`` names, if it does."""


def answer_under_all(questions: Sequence[Question], engine: Engine, runs: Sequence[StoredRun]) -> list[Trace]:
    """Answer one batch under the settings of each run, and store the answers there; the traces of the first run.

    The macro answers of the first run, stored ones too, are those of all. The cost in each trace is that of its setting
    alone.
    """
    first, *others = runs
    sharing = SharingEngine(engine)
    traces = answer(questions, sharing, first.settings, store=first.store, fitted=first.fitted)
    for question, trace in zip(questions, traces, strict=True):
        if trace.macro is not None:
            sharing.keep(macro_request(question, first.settings), trace.macro, trace.cost)
    for run in others:
        answer(questions, sharing, run.settings, store=run.store, fitted=run.fitted)
    return traces


class SharingEngine:
    """An engine that computes equal requests once, for as long as it lives: one batch of questions.

    Its counters go on as if each request were computed whenever it is asked for. A result that is given again counts
    with its part of the work of the call that computed it: of images by how many new ones it shows, of all else an
    equal part.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._results: dict[Hashable, tuple[Any, _Work]] = {}
        self._given_again: Counter[str] = Counter()
        self._shown: set[Picture] = set()
        for name in dir(type(engine)):  # whatever else it can do, as attributes that runtime protocols find
            if not name.startswith("_") and not hasattr(type(self), name) and callable(getattr(type(engine), name)):
                setattr(self, name, getattr(engine, name))

    @property
    def counters(self) -> Counters:
        total = _work(self._engine.counters)
        for name, value in self._given_again.items():
            total[name] = total.get(name, 0) + value
        phases = {name.removeprefix(_SECONDS): total.pop(name) for name in [*total] if name.startswith(_SECONDS)}
        return Counters(**{name: round(value) for name, value in total.items()}, seconds=phases)

    def keep(self, request: GenerateRequest, result: Completion, cost: Cost | None) -> None:
        """Give ``result`` to every equal request; ``cost`` is what it took, as far as that is not counted elsewhere."""
        if request not in self._results:
            work = _work(cost) if cost else {}
            work.pop("questions", None)
            self._results[request] = result, work

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """See ``Engine.generate``."""
        return self._computed(requests, self._engine.generate)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """See ``Engine.score``."""
        return self._computed(requests, self._engine.score)

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """See ``Engine.continuation``."""
        return self._engine.continuation(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """See ``Engine.encoded_size``."""
        return self._engine.encoded_size(picture)

    def _computed(
        self, requests: Sequence[RequestT], compute: Callable[[Sequence[RequestT]], Sequence[Any]]
    ) -> list[Any]:
        new = [request for request in dict.fromkeys(requests) if request not in self._results]
        for request in requests:
            if request in self._results:
                self._given_again.update(self._results[request][1])
        if new:
            before = _work(self._engine.counters)
            results = compute(new)
            after = _work(self._engine.counters)
            done = {name: value - before.get(name, 0) for name, value in after.items()}
            for request, result, share in zip(new, results, self._image_shares(new), strict=True):
                equal = {name: value / len(new) for name, value in done.items()}
                self._results[request] = result, equal | {"images_encoded": share * done["images_encoded"]}
        return [self._results[request][0] for request in requests]

    def _image_shares(self, requests: Sequence[Any]) -> list[float]:
        """Each request's share of the images that none before it has shown."""
        counts = []
        for request in requests:
            parts = (part for message in request.conversation for part in message.content)
            new = {part for part in parts if isinstance(part, Picture)} - self._shown
            self._shown |= new
            counts.append(len(new))
        return [count / sum(counts) if any(counts) else 1 / len(counts) for count in counts]


def _work(counts: Counters | Cost) -> dict[str, float]:
    plain = {name: value for name, value in vars(counts).items() if name != "seconds"}
    return plain | {f"{_SECONDS}{phase}": value for phase, value in counts.seconds.items()}
