"""Runs on servers that fail, die or are replaced: no answer is lost, none is asked for twice, none is another model's.

The same on a real vLLM: tests/server/test_faults.py.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faulty_proxy import PASSING, FaultyProxy
from tests.integration.conftest import Outcome, Run, read_traces
from tests.integration.server_runs import (
    assert_completed,
    assert_lost,
    command,
    kill_once_stored,
    once_stored,
)
from tests.server_double import ServerDouble, serving

CHECKOUT = Path(__file__).parents[2]
QUESTIONS = 6
ENOUGH = 2
"""Stored answers after which something happens."""
MODEST = "concurrency=2"
"""So that not all questions are in flight at once."""


@pytest.fixture
def proxy(served: str) -> FaultyProxy:
    return FaultyProxy(served)


@pytest.fixture
def address(proxy: FaultyProxy) -> Iterator[str]:
    with serving(proxy.app) as address:
        yield address


@pytest.fixture(scope="module")
def known() -> list[tuple[Outcome, Counter[str]]]:
    """What `undisturbed` has found out."""
    return []


@pytest.fixture
def undisturbed(
    run_here: Run, address: str, proxy: FaultyProxy, tmp_path: Path, known: list[tuple[Outcome, Counter[str]]]
) -> tuple[Outcome, Counter[str]]:
    """A run without faults, and what it asked for; made once."""
    if not known:
        outcome = run_here(*command(address, tmp_path / "undisturbed", QUESTIONS, MODEST), output="undisturbed")
        assert outcome.status == 0, outcome.output
        assert outcome.record["summary"]["questions"] == QUESTIONS
        known.append((outcome, proxy.asked.copy()))
        proxy.asked.clear()
    return known[0]


def test_one_request_in_four_fails(
    run_here: Run, address: str, proxy: FaultyProxy, undisturbed: tuple[Outcome, Counter[str]], tmp_path: Path
) -> None:
    expected, asked = undisturbed
    names = list(PASSING)
    proxy.plan = lambda number: names[number // 4 % len(names)] if number % 4 == 3 else None
    found = run_here(*command(address, tmp_path / "traces", QUESTIONS, MODEST), output="disturbed")
    assert_completed(found, expected, [], tmp_path / "traces")
    assert len(proxy.faults) >= 5
    assert proxy.asked == asked + proxy.failed  # once, and again for each time that it failed
    assert any("requests that were sent again" in warning for warning in found.record["warnings"])


def test_kill_the_client_and_run_again(
    run_here: Run,
    environment: dict[str, str],
    address: str,
    proxy: FaultyProxy,
    undisturbed: tuple[Outcome, Counter[str]],
    tmp_path: Path,
) -> None:
    traces = tmp_path / "traces"
    arguments = command(address, traces, QUESTIONS, MODEST)
    kill_once_stored(arguments, traces, ENOUGH, proxy, environment, tmp_path)
    kept = read_traces(traces)
    assert ENOUGH <= len(kept) < QUESTIONS
    found = run_here(*command(address, traces, QUESTIONS, MODEST), output="again")
    assert_completed(found, undisturbed[0], kept, traces)


def test_kill_the_server_and_run_again(
    run_here: Run,
    embedded: Path,
    environment: dict[str, str],
    served: str,
    address: str,
    proxy: FaultyProxy,
    undisturbed: tuple[Outcome, Counter[str]],
    tmp_path: Path,
) -> None:
    traces = tmp_path / "traces"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.server_double", str(embedded)],
        cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        proxy.target = server.stdout.readline().strip()
        proxy.plan = once_stored(traces, ENOUGH, server.kill)
        failed = run_here(*command(address, traces, QUESTIONS, MODEST, "retries=1"), output="failed")
    finally:
        server.kill()
        server.wait()
    kept = assert_lost(failed, traces, ENOUGH, QUESTIONS)

    proxy.target = served
    found = run_here(*command(address, traces, QUESTIONS, MODEST), output="again")
    assert_completed(found, undisturbed[0], kept, traces)


def test_a_server_that_is_replaced_in_mid_run(
    run_here: Run,
    embedded: Path,
    other_checkpoint: Path,
    address: str,
    proxy: FaultyProxy,
    undisturbed: tuple[Outcome, Counter[str]],
    tmp_path: Path,
) -> None:
    traces = tmp_path / "traces"
    with ExitStack() as first, ExitStack() as second:
        proxy.target = first.enter_context(serving(ServerDouble(embedded).app))
        port = int(proxy.target.rpartition(":")[2])

        def replace() -> None:
            first.close()
            second.enter_context(serving(ServerDouble(other_checkpoint, root=embedded).app, port))

        proxy.plan = once_stored(traces, ENOUGH, replace)
        stopped = run_here(*command(address, traces, QUESTIONS, MODEST), output="stopped")
        assert stopped.status == 2, stopped.output
        assert f"{address}/v1: the server was replaced in mid-run" in stopped.output.strip().splitlines()[-1]
        kept = read_traces(traces)
        assert ENOUGH <= len(kept) < QUESTIONS

        mixed = run_here(*command(address, traces, QUESTIONS, MODEST), output="mixed")
        assert mixed.status == 2
        assert "holds answers of another model of the same name" in mixed.output.strip().splitlines()[-1]
        assert read_traces(traces) == kept
    with serving(ServerDouble(embedded).app, port):
        found = run_here(*command(address, traces, QUESTIONS, MODEST), output="again")
    assert_completed(found, undisturbed[0], kept, traces)


def test_a_key_is_nowhere_in_what_a_run_writes(
    run_here: Run,
    embedded: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    key = "sk-0123456789abcdef"
    monkeypatch.setenv("MY_KEY", key)
    with serving(ServerDouble(embedded, key=key).app) as own, caplog.at_level(logging.DEBUG):
        proxy = FaultyProxy(own, plan=lambda number: "web page" if number % 7 == 3 else None)
        with serving(proxy.app) as address:
            found = run_here(*command(address, tmp_path / "traces", QUESTIONS, MODEST, "api_key=MY_KEY", "retries=1"))
    assert found.record["engine"]["api_key"] == "MY_KEY"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 3
    assert not [path for path in written if key.encode() in path.read_bytes()]
    assert key not in found.output
    assert key not in caplog.text
    assert key not in json.dumps(found.results)
