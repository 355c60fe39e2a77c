"""Engines in front of a server double, which are closed at the end of the test."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import load_engine
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.connecting import connect
from dualfocus_eval.engines.server.running import ServerEngine
from tests.server_double import NAME

torch.set_num_threads(1)

EMBEDDED = str(resource_folder("models") / EMBEDDED_CHECKPOINT)

Connect = Callable[..., ServerEngine]


@contextmanager
def connecting() -> Iterator[Connect]:
    """A function from addresses, separated by commas, and further arguments to the engine in front of them."""
    engines: list[ServerEngine] = []

    def start(base_url: str, **arguments: Any) -> ServerEngine:
        given = {"model": NAME, "pretrained": EMBEDDED, "timeout": 20.0, **arguments}
        engines.append(connect(ServerConfig(base_url=base_url, **given)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def connected() -> Iterator[Connect]:
    with connecting() as start:
        yield start


@pytest.fixture(scope="session")
def in_process() -> LocalEngine:
    """The embedded checkpoint in this process."""
    return load_engine(EngineConfig(EMBEDDED))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, as for a command in the foreground: shells have it ignored by what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
