from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dualfocus_eval.traces.progress import Progress, ProgressFormatError, progress_files, read_progress, write_progress

NOTE = Progress(
    started=1.5,
    processes=2,
    settings_key="key",
    arithmetic={"torch": "2.15.0"},
    model="a model",
    strategy="dualfocus",
    selection="own_context",
    questions={"a_task": (0, 2, 4), "another": ()},
    arguments={"reasoning_tags": [["<think>", "</think>"]]},
    trace_bytes=10,
)


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_progress(tmp_path, NOTE, rank=1)
    assert path.name == "progress.rank0001.json"
    assert read_progress(path) == NOTE
    other = replace(NOTE, started=2.0)
    write_progress(tmp_path, other, rank=1)
    write_progress(tmp_path, NOTE)
    assert [read_progress(path) for path in progress_files(tmp_path)] == [NOTE, other]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("started", "now"), ("processes", 0), ("questions", {"a_task": [0.5]}), ("trace_bytes", -1), ("version", 2),
        ("arithmetic", None), ("more", 1), ("started", 1e300),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(tmp_path: Path, field: str, value: object) -> None:
    path = write_progress(tmp_path, NOTE)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ProgressFormatError, match=field):
        read_progress(path)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "progress.rank0000.json").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        read_progress(tmp_path / "progress.rank0000.json")
