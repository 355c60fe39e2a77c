"""The engine that a configuration asks for."""

from __future__ import annotations

from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.engines.server.config import ServerConfig

__all__ = ["start_engine"]


def start_engine(config: EngineConfig | ServerConfig) -> RunEngine:
    """Load a checkpoint, or connect to servers. Raises ``UserError`` where what is asked for cannot be used."""
    if isinstance(config, ServerConfig):
        from dualfocus_eval.engines.server.connecting import connect

        return connect(config)
    from dualfocus_eval.engines.in_process import load_engine

    return load_engine(config)
