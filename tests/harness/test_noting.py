"""A run notes what it is about to ask, and goes on where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.noting import documents_of, scoring_arguments
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.harness.session import Session
from dualfocus_eval.traces.progress import read_progress


def asked(task: str, document: int) -> Request:
    return Request(task, "test", document, "", list)


REQUESTS = [asked("b", 3), asked("a", 0), asked("b", 1), asked("b", 3)]


def session_in(checkpoint: Path, folder: Path) -> Session:
    return Session(
        resolve({"pretrained": str(checkpoint), "trace_dir": str(folder), "strategy": "macro"}), Accelerator()
    )


def test_documents_by_task_each_once() -> None:
    assert documents_of(REQUESTS) == {"b": (3, 1), "a": (0,)}


def test_the_arguments_that_scoring_needs() -> None:
    flags: dict[str, Any] = {"include_path": "/tasks", "reasoning_tags": [["<a>", "</a>"]], "limit": 3, "device": None}
    assert scoring_arguments(flags) == {"include_path": "/tasks", "reasoning_tags": [["<a>", "</a>"]]}
    assert scoring_arguments({"include_path": None, "reasoning_tags": object()}) == {}


def test_the_note_of_a_session(checkpoint: Path, tmp_path: Path) -> None:
    session = session_in(checkpoint, tmp_path)
    session.note_progress(REQUESTS, {"include_path": "/tasks"})
    found = read_progress(tmp_path / "progress.rank0000.json")
    assert found.questions == {"b": (3, 1), "a": (0,)}
    assert (found.settings_key, found.arithmetic) == (session.settings_key, session.arithmetic)
    assert (found.strategy, found.processes, found.trace_bytes) == ("macro", 1, 0)
    session.finish()
    assert json.loads((tmp_path / "progress.rank0000.json").read_text())["version"] == 1


def test_a_note_that_cannot_be_written_ends_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "progress.rank0000.json").mkdir()
    session = session_in(checkpoint, tmp_path)
    session.note_progress(REQUESTS, {})
    assert any(warning.startswith("dualfocus view cannot follow this run: ") for warning in session.record["warnings"])
    session.finish()
