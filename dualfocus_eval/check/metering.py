"""Time, tokens and peak memory of a pass."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch

from dualfocus_eval.engines.running import RunEngine

__all__ = ["Meter", "Usage"]

_EVERY = 0.01
"""Seconds between two looks at this process's memory."""


@dataclass(frozen=True)
class Usage:
    """What a pass took, over all questions."""

    seconds: float = 0.0
    peak_bytes: int | None = None
    """The largest memory in use: on the GPUs, or of this process where the model runs on the CPU; None elsewhere."""
    tokens_prefilled: int = 0
    tokens_reused: int = 0
    tokens_untold: int = 0
    """Of the prefilled ones those of which a server does not say whether it has reused them."""

    def __add__(self, other: Usage) -> Usage:
        peaks = [peak for peak in (self.peak_bytes, other.peak_bytes) if peak is not None]
        return Usage(
            self.seconds + other.seconds,
            max(peaks, default=None),
            self.tokens_prefilled + other.tokens_prefilled,
            self.tokens_reused + other.tokens_reused,
            self.tokens_untold + other.tokens_untold,
        )


@dataclass
class Meter:
    """Adds up what the passes over ``engine`` take, by the pass's name."""

    engine: RunEngine
    usage: dict[str, Usage] = field(default_factory=dict)

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """Count what happens in the block as a part of pass ``name``."""
        before, begin = copy.copy(self.engine.counters), time.perf_counter()
        with _peak_memory(self._device) as peak:
            yield
        seconds, after = time.perf_counter() - begin, self.engine.counters
        spent = Usage(
            seconds,
            peak.bytes,
            after.tokens_prefilled - before.tokens_prefilled,
            after.tokens_reused - before.tokens_reused,
            after.tokens_untold - before.tokens_untold,
        )
        self.usage[name] = self.usage.get(name, Usage()) + spent

    @property
    def _device(self) -> str | None:
        return self.engine.info.device


@dataclass
class _Peak:
    bytes: int | None = None


@contextmanager
def _peak_memory(device: str | None) -> Iterator[_Peak]:
    """The block's peak, known when it has ended; nothing where the memory cannot be seen."""
    peak = _Peak()
    if device is not None and device.startswith("cuda"):
        devices = range(torch.cuda.device_count())
        for number in devices:
            torch.cuda.reset_peak_memory_stats(number)
        yield peak
        peak.bytes = sum(torch.cuda.max_memory_allocated(number) for number in devices)
    elif device == "cpu":
        with _watching(peak):
            yield peak
    else:
        yield peak


@contextmanager
def _watching(peak: _Peak) -> Iterator[None]:
    process, ended = psutil.Process(), threading.Event()

    def look() -> None:
        peak.bytes = max(peak.bytes or 0, process.memory_info().rss)

    def watch() -> None:
        while not ended.wait(_EVERY):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        look()
