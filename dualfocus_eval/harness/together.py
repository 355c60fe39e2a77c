"""Runs of one model that are made one after the other: it is loaded once, and the first run answers for all.

lmms-eval makes the model of each of its runs itself, so that the runs of a process find each other here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.harness.arguments import RunConfig, resolve
from dualfocus_eval.harness.calibrated import fitting_calibration
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.method.sharing import StoredRun

__all__ = ["OtherRuns", "Together", "other_runs", "release_engine", "runs_together", "shared_engine"]

Arguments = Mapping[str, Any]
Start = Callable[[EngineConfig | ServerConfig], RunEngine]


@dataclass
class Together:
    """The runs made within one `runs_together`."""

    others: Sequence[Arguments]
    """Of each run after the first, the model arguments that differ from the first run's; None for one to leave out."""
    _config: EngineConfig | ServerConfig | None = None
    _engine: RunEngine | None = None
    _begun: bool = False

    def start(self, config: EngineConfig | ServerConfig, start: Start) -> RunEngine:
        """The engine of the runs before, if it is the one that ``config`` asks for; else it is started."""
        if self._engine is None or config != self._config:
            self.close()
            self._config, self._engine = config, start(config)
        return self._engine

    def others_of(self, arguments: Arguments) -> list[RunConfig]:
        """The other runs, at the first call, with the first run's model arguments: those that can be made."""
        if self._begun:
            return []
        self._begun = True
        found = []
        for other in self.others:
            values = {name: value for name, value in {**arguments, **other}.items() if value is not None}
            try:
                found.append(resolve(values))
            except UserError:  # its own run will say why
                continue
        return found

    @property
    def counters(self) -> Counters:
        """What the engine has done for all runs."""
        return self._engine.counters if self._engine else Counters()

    def close(self) -> None:
        """Free the model."""
        if self._engine:
            self._engine.close()
        self._engine = None


class OtherRuns:
    """The runs that a run answers its questions for beside itself, each with a ``trace_dir`` of its own."""

    def __init__(self, configs: Sequence[RunConfig]) -> None:
        self._configs = configs
        self._opened: list[StoredRun] = []

    def opened(self, engine: RunEngine, rank: int) -> Sequence[StoredRun]:
        """They, with their trace stores opened at the first call: those that can be made with this engine."""
        if not self._opened:
            self._opened = [found for config in self._configs if (found := _opened(config, engine, rank))]
        return self._opened

    def close(self) -> None:
        """Close the stores."""
        for run in self._opened:
            run.store.close()
        self._opened = []


def _opened(config: RunConfig, engine: RunEngine, rank: int) -> StoredRun | None:
    try:
        fitted, chosen, _ = fitting_calibration(
            config.calibration, config.settings, engine, config.sources.get("selection", "default")
        )
        settings, _ = fitting_settings(chosen, engine)
        store = StoreKey.of(settings, engine).open_store(Path(str(config.trace_dir)), rank)
    except UserError:  # its own run will say why
        return None
    return StoredRun(settings, store, fitted)


_running: ContextVar[Together | None] = ContextVar("running_together", default=None)


@contextmanager
def runs_together(others: Sequence[Arguments]) -> Iterator[Together]:
    """Let the runs in the block share one engine, and the first of them answer for ``others`` too (`Together.others`).

    Those then find their answers in their trace folders.
    """
    together = Together(others)
    token = _running.set(together)
    try:
        yield together
    finally:
        _running.reset(token)
        together.close()


def shared_engine(config: EngineConfig | ServerConfig, start: Start) -> RunEngine:
    """The engine of the runs that one which begins now belongs to; without any it is started."""
    together = _running.get()
    return together.start(config, start) if together else start(config)


def release_engine(engine: RunEngine) -> None:
    """Close the engine of a run that has ended, unless others go on with it."""
    if not _running.get():
        engine.close()


def other_runs(arguments: Arguments) -> list[RunConfig]:
    """The runs that one with these model arguments is to answer for beside itself."""
    together = _running.get()
    return together.others_of(arguments) if together else []
