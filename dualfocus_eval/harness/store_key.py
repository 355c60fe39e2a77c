"""Which stored answers a loaded model may reuse, and the store that holds them: the same for evaluation and API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import OwnModel
from dualfocus_eval.method.settings import Settings, settings_key
from dualfocus_eval.traces.store import TraceStore

__all__ = ["StoreKey"]


@dataclass(frozen=True)
class StoreKey:
    """What a stored answer must share with a model and its settings."""

    settings_key: str
    """`method.settings.settings_key`: digest of the settings and the checkpoint."""
    arithmetic: Mapping[str, str]
    """`engines.environment.arithmetic_of`: versions, precision and device."""
    claim: Callable[[Path], None] = field(compare=False)
    """`RunEngine.claim_traces`: what of the model the key does not tell."""

    @classmethod
    def of(cls, settings: Settings, engine: RunEngine) -> StoreKey:
        identity = dict(engine.key)
        method = GROUNDING[settings.grounding]
        if settings.strategy != "macro" and isinstance(method, OwnModel):
            identity["grounding_model"] = method.digest(settings)
        if engine.thinks:
            identity["max_thinking_tokens"] = str(settings.max_thinking_tokens)
        return cls(settings_key(settings, identity), engine.arithmetic, engine.claim_traces)

    def open_store(self, folder: Path, rank: int = 0) -> TraceStore:
        """The store in ``folder``, which is made if need be. Raises ``UserError`` where it cannot be used."""
        if rank == 0:
            self.claim(folder)
        try:
            return TraceStore(folder, self.settings_key, arithmetic=self.arithmetic, rank=rank)
        except OSError as error:
            raise UserError(f"trace folder {folder} cannot be used: {error}") from error
