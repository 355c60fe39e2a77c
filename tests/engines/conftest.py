"""Random models of every architecture, built once per session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dualfocus_eval.engines.checkpoint import Checkpoint
from measurements.exactness import random_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint_of() -> Callable[..., Checkpoint]:
    """A function from architecture (and dtype) to its random checkpoint."""
    built: dict[tuple[str, torch.dtype], Checkpoint] = {}

    def get(architecture: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
        if (architecture, dtype) not in built:
            built[architecture, dtype] = random_checkpoint(architecture, dtype)
        return built[architecture, dtype]

    return get


@pytest.fixture(scope="session")
def llava(checkpoint_of: Callable[..., Checkpoint]) -> Checkpoint:
    return checkpoint_of("llava")
