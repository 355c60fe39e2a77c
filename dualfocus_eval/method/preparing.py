"""Before the first question: what a method cannot work with is refused, and a model of its own is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.settings import Settings

__all__ = ["Preparing", "prepare"]


@runtime_checkable
class Preparing(Protocol):
    """A grounding method or second pass that not every engine can run, or that runs a model of its own.

    An optional part of both seams: a method without it is ready for every engine.
    """

    def prepare(self, engine: RunEngine, settings: Settings) -> Mapping[str, str]:
        """Get ready, and return what of its own models can change an answer, by a name of the method's own.

        It becomes a part of the key of stored answers. Called before the first question, perhaps several times. Raises
        ``UserError`` where the method cannot work with the engine or the settings, with what to do.
        """
        ...


def prepare(settings: Settings, engine: RunEngine) -> dict[str, str]:
    """Have the run's grounding method and second pass get ready, where the strategy uses them; see `Preparing`."""
    if settings.strategy == "macro":
        return {}
    identity: dict[str, str] = {}
    for method in (GROUNDING[settings.grounding], SECOND_PASSES[settings.second_pass]):
        if isinstance(method, Preparing):
            identity |= method.prepare(engine, settings)
    return identity
