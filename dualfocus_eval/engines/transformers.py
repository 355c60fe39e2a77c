"""The in-process engine: transformers models behind ``engines.base.Engine``."""

from __future__ import annotations

from dualfocus_eval.engines.base import Engine
from dualfocus_eval.engines.config import EngineConfig

__all__ = ["EngineConfig", "TransformersEngine", "load_engine"]


class TransformersEngine(Engine):
    """Runs a checkpoint on this machine; ``identity`` names its content for the keys of stored answers."""

    identity: str


def load_engine(config: EngineConfig) -> TransformersEngine:
    """Load the checkpoint that ``config`` names. Raises ``CheckpointError`` when it cannot be used."""
    raise NotImplementedError
