"""A real vLLM behind a proxy that fails, whose client is killed, and that is killed itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from measurements.vllm_server import Running
from measurements.vllm_server import serving as serving_vllm
from tests.faulty_proxy import PASSING, FaultyProxy
from tests.integration.conftest import Outcome, Run, read_traces
from tests.integration.server_runs import (
    assert_completed,
    assert_lost,
    command,
    complete,
    kill_once_stored,
    once_stored,
)
from tests.server_double import serving

pytestmark = pytest.mark.server

QUESTIONS = 60
ENOUGH = 20
"""Stored answers after which something happens."""
FEW = "concurrency=8"


@pytest.fixture
def proxy(server: Running) -> FaultyProxy:
    return FaultyProxy(server.base_url)


@pytest.fixture
def address(proxy: FaultyProxy) -> Iterator[str]:
    with serving(proxy.app) as address:
        yield address


@pytest.fixture
def undisturbed(run: Run, address: str, proxy: FaultyProxy, tmp_path: Path) -> Outcome:
    outcome = run(
        "dualfocus", "eval", *command(address, tmp_path / "undisturbed", QUESTIONS, FEW), output="undisturbed"
    )
    assert outcome.status == 0, outcome.output
    assert outcome.record["summary"]["questions"] == QUESTIONS
    return outcome


def test_one_request_in_ten_fails(
    run: Run, address: str, proxy: FaultyProxy, undisturbed: Outcome, tmp_path: Path
) -> None:
    asked = proxy.asked.copy()
    proxy.asked.clear()
    names = list(PASSING)
    proxy.plan = lambda number: names[number // 10 % len(names)] if number % 10 == 3 else None
    traces = tmp_path / "traces"
    found = run("dualfocus", "eval", *command(address, traces, QUESTIONS, FEW), output="disturbed")
    assert_completed(found, undisturbed, [], traces)
    assert len(proxy.faults) >= 5
    assert proxy.asked == asked + proxy.failed  # once, and again for each time that it failed


def test_kill_the_client_and_run_again(
    run: Run, environment: dict[str, str], address: str, proxy: FaultyProxy, undisturbed: Outcome, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    arguments = command(address, traces, QUESTIONS, FEW)
    kill_once_stored(arguments, traces, ENOUGH, proxy, environment, tmp_path)
    kept = complete(traces)
    assert ENOUGH <= len(kept) < QUESTIONS
    found = run("dualfocus", "eval", *command(address, traces, QUESTIONS, FEW), output="again")
    assert_completed(found, undisturbed, kept, traces)


def test_kill_the_server_and_run_again(
    run: Run, server: Running, address: str, proxy: FaultyProxy, undisturbed: Outcome, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    with serving_vllm(tmp_path / "vllm") as killed:
        proxy.target, proxy.plan = killed.base_url, once_stored(traces, ENOUGH, killed.kill)
        failed = run("dualfocus", "eval", *command(address, traces, QUESTIONS, FEW, "retries=2"), output="failed")
    kept = assert_lost(failed, traces, ENOUGH, QUESTIONS)
    assert len({trace["key"] for trace in read_traces(traces)}) == QUESTIONS

    proxy.target = server.base_url
    found = run("dualfocus", "eval", *command(address, traces, QUESTIONS, FEW), output="again")
    assert_completed(found, undisturbed, kept, traces)
