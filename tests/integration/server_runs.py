"""Runs of ``dualfocus eval`` on servers, in which something happens once some answers are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faulty_proxy import Plan
from tests.integration.conftest import Outcome, read_traces, trace_files

__all__ = ["assert_completed", "command", "complete", "once_stored"]

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
