"""A real vLLM server with the embedded checkpoint in float32, one for all tests, and runs of both engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from measurements.server_exactness import answered
from measurements.vllm_server import Running, serving
from tests.integration.conftest import environment, run

__all__ = ["Compared", "environment", "run"]

QUESTIONS = 40


@dataclass(frozen=True)
class Compared:
    """Finished runs of ``dualfocus eval`` on the same questions of one set."""

    task: str
    in_process: Path
    server: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("vllm")) as running:
        yield running


@pytest.fixture(scope="session", params=["df_pope_mini", "df_scenes_mini"])
def compared(request: pytest.FixtureRequest, server: Running, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder, task = tmp_path_factory.mktemp("compared"), request.param
    return Compared(
        task,
        answered(folder / "in_process", task, QUESTIONS),
        answered(folder / "server", task, QUESTIONS, "engine=server", f"base_url={server.base_url}"),
    )
