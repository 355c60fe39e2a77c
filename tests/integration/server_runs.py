"""Runs of ``dualfocus eval`` on servers, in which something happens once some answers are stored."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faulty_proxy import FaultyProxy, Plan
from tests.integration.conftest import BIN, Outcome, read_traces, trace_files

__all__ = ["assert_completed", "assert_lost", "command", "complete", "kill_once_stored", "once_stored"]

SETS = 3
"""Tasks of df_pope_mini, of which each has as many questions as its limit says."""


def command(address: str, traces: Path, questions: int, *more: str) -> list[str]:
    arguments = ["engine=server", f"base_url={address}", f"trace_dir={traces}", *more]
    return ["--model_args", ",".join(arguments), "--tasks", "df_pope_mini", "--limit", str(questions // SETS)]


def once_stored(traces: Path, enough: int, act: Callable[[], object]) -> Plan:
    """Call ``act`` when ``enough`` answers are stored and a request for another comes; no request meets a fault."""
    done: list[object] = []

    def plan(number: int) -> None:
        stored = sum(path.read_bytes().count(b"\n") for path in trace_files(traces))
        if stored >= enough and not done:
            done.append(act())

    return plan


def kill_once_stored(
    arguments: list[str], traces: Path, enough: int, proxy: FaultyProxy, environment: dict[str, str], folder: Path
) -> None:
    """Run ``dualfocus eval`` with ``arguments`` through ``proxy``, and kill it when ``enough`` answers are stored."""
    processes: list[subprocess.Popen[bytes]] = []
    proxy.plan = once_stored(traces, enough, lambda: os.killpg(processes[0].pid, signal.SIGKILL))
    with (folder / "log").open("wb") as log:
        processes += [
            subprocess.Popen(
                [str(BIN / "dualfocus"), "eval", *arguments],
                cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )
        ]  # fmt: skip
        assert processes[0].wait() == -signal.SIGKILL, (folder / "log").read_text()


def assert_lost(failed: Outcome, traces: Path, enough: int, questions: int) -> list[dict[str, Any]]:
    """The server went away, and the run says so of the questions that it cost; the answers stored before."""
    assert failed.status == 1
    lost = failed.record["summary"]["failures"]
    assert lost.keys() == {"server_unreachable"}
    assert f"(server_unreachable {lost['server_unreachable']})" in failed.output.strip().splitlines()[-1]
    kept = complete(traces)
    assert enough <= len(kept) <= questions - lost["server_unreachable"]
    return kept


def assert_completed(found: Outcome, expected: Outcome, kept: list[dict[str, Any]], traces: Path) -> None:
    """The same answers as ``expected``; those in ``kept`` were not asked for again."""
    assert found.status == 0, found.output
    assert found.answers == expected.answers
    assert found.scores == expected.scores
    ours, theirs = found.record["summary"], expected.record["summary"]
    assert ours["selected"] == theirs["selected"]
    assert ours["resumed"] == len(kept)
    assert ours["decode_steps"] == theirs["decode_steps"] - sum(trace["cost"]["decode_steps"] for trace in kept)
    keys = [trace["key"] for trace in complete(traces)]
    assert len(keys) == len(set(keys)) == theirs["questions"]


def complete(traces: Path) -> list[dict[str, Any]]:
    """Stored answers that no failure of the server had a part in."""
    return [trace for trace in read_traces(traces) if trace["error"] is None and trace["cause"] is None]
