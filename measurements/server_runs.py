"""Runs of the same questions on servers and in process, with what the servers' own metrics say of them."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dualfocus_eval.api.asking import QuestionText, ask_about
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.common.threads import results_of
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.engines.starting import start_engine
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from measurements.vllm_server import serving

__all__ = ["Answers", "Cached", "answer_all", "cached", "forget", "local", "on_servers", "scenes", "served"]

PER_IMAGE = 6
_METRIC = re.compile(r"^vllm:prefix_cache_(queries|hits)_total(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Answers:
    """What a run gave and took."""

    traces: tuple[Trace, ...]
    counters: Counters
    wall: float
    """Seconds, the engine's start not included."""
    cpu: float
    """Processor seconds of this process alone, all threads together."""

    @property
    def share(self) -> float:
        """Prompt tokens reused, of all."""
        return self.counters.tokens_reused / (self.counters.tokens_reused + self.counters.tokens_prefilled)


@dataclass(frozen=True)
class Cached:
    """Prompt tokens that servers looked up in their prefix caches and found, by their own metrics."""

    queries: float = 0.0
    hits: float = 0.0

    def __add__(self, other: Cached) -> Cached:
        return Cached(self.queries + other.queries, self.hits + other.hits)

    def __sub__(self, other: Cached) -> Cached:
        return Cached(self.queries - other.queries, self.hits - other.hits)

    @property
    def share(self) -> float:
        return self.hits / self.queries


def scenes(images: int) -> list[Question]:
    """The questions of df_scenes_mini about the first ``images`` images that have six, image by image."""
    rows = pd.read_parquet(resource_folder("tasks") / "scenes" / "data" / "mini.parquet")
    full = rows.groupby("image_id", sort=False).filter(lambda group: len(group) == PER_IMAGE)
    chosen = full[full.image_id.isin(full.image_id.unique()[:images])]
    pairs = zip(chosen.image, chosen.question, strict=True)
    return [ask_about(image["bytes"], QuestionText.of(text)).question for image, text in pairs]


@contextmanager
def on_servers(folder: Path, count: int, *options: str) -> Iterator[tuple[str, ...]]:
    """Addresses of ``count`` fresh vLLM servers of the embedded checkpoint, which can be told to `forget`."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    if count == 0:
        yield ()
        return
    with (
        serving(folder, "--enable-prompt-tokens-details", *options) as server,
        on_servers(folder, count - 1, *options) as others,
    ):
        yield (server.base_url, *others)


def cached(addresses: Sequence[str]) -> Cached:
    """Since the servers' start, over all of them."""
    return sum((_cached(address) for address in addresses), Cached())


def _cached(address: str) -> Cached:
    with urllib.request.urlopen(f"{address}/metrics") as reply:
        return Cached(**{name: float(value) for name, value in _METRIC.findall(reply.read().decode())})


def forget(addresses: Sequence[str]) -> None:
    """Empty the servers' caches of prefixes, of prepared and of encoded images."""
    for address in addresses:
        for name in ("prefix", "mm", "encoder"):
            urllib.request.urlopen(urllib.request.Request(f"{address}/reset_{name}_cache", method="POST")).close()


@contextmanager
def local() -> Iterator[tuple[RunEngine, Settings]]:
    """The embedded checkpoint in process, with its settings."""
    with _started({}) as started:
        yield started


@contextmanager
def served(addresses: Sequence[str], concurrency: int) -> Iterator[tuple[RunEngine, Settings]]:
    """The same checkpoint behind ``addresses``."""
    pretrained = str(resource_folder("models") / "dualfocus-tiny")
    arguments = {"engine": "server", "base_url": ",".join(addresses), "concurrency": concurrency}
    with _started({**arguments, "pretrained": pretrained}) as started:
        yield started


@contextmanager
def _started(arguments: dict[str, object]) -> Iterator[tuple[RunEngine, Settings]]:
    config = resolve(arguments)
    engine = start_engine(config.engine)
    try:
        yield engine, config.settings
    finally:
        engine.close()


def answer_all(questions: Sequence[Question], engine: RunEngine, settings: Settings, batch: int = 1) -> Answers:
    """Answer as a run does, ``batch`` questions in one call. Raises RuntimeError where a question fails."""
    before = replace(engine.counters)
    batches = [questions[first : first + batch] for first in range(0, len(questions), batch)]
    began = time.perf_counter(), time.process_time()
    found = results_of(lambda asked: answer(asked, engine.call_engine(), settings), batches, engine.parallel_calls)
    by_key = {trace.key: trace for traces in found for trace in traces}
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    traces = tuple(by_key[question.key] for question in questions)
    for trace in traces:
        if trace.error:
            raise RuntimeError(f"{trace.key}: {trace.error.message}")
    return Answers(traces, _difference(before, engine.counters), wall, cpu)


def _difference(before: Counters, after: Counters) -> Counters:
    counts = {name: value - getattr(before, name) for name, value in vars(after).items() if name != "seconds"}
    return Counters(**counts)
