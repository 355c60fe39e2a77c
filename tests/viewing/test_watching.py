from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.viewing.watching import Watch
from tests.viewing.runs import STARTED, TASK, note, put, trace


class Clock:
    """Stands where it is put."""

    now = STARTED + 100

    def __call__(self) -> float:
        return self.now


def state_of(watch: Watch) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(watch.state)
    return found


def results_in(place: Path, at: float) -> Path:
    """An lmms-eval results file of that time, without tasks."""
    path = place / "20260101_000000_results.json"
    path.write_text(
        json.dumps({"results": {}, "n-samples": {}, "configs": {}, "config": {}, "date": "20260101_000000"})
    )
    os.utime(path, (at, at))
    return path


def test_it_waits_for_a_run_to_begin(tmp_path: Path) -> None:
    watch = Watch(tmp_path, tmp_path / "work")
    watch.step()
    assert (state_of(watch)["phase"], state_of(watch)["run"]) == ("waiting", None)
    note(tmp_path / "traces", {TASK: range(3)})
    watch.step()
    assert state_of(watch)["phase"] == "answering"


def test_a_missing_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; name the --output_path"):
        Watch(tmp_path / "none", tmp_path / "work")


def test_a_damaged_note_is_shown(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(3)}).write_text("{")
    watch = Watch(tmp_path, tmp_path / "work")
    watch.step()
    assert "progress.rank0000.json" in state_of(watch)["problem"]
    note(tmp_path / "traces", {TASK: range(3)})
    watch.step()
    assert state_of(watch)["problem"] == ""


def test_results_of_an_earlier_run_end_nothing(tmp_path: Path) -> None:
    results_in(tmp_path, STARTED - 50)
    note(tmp_path / "traces", {TASK: range(3)})
    put(tmp_path / "traces", [trace(0)])
    watch = Watch(tmp_path, tmp_path / "work", clock=Clock())
    watch.step()
    assert state_of(watch)["phase"] == "answering"


def test_the_report_is_made_when_nothing_is_written_any_more(tmp_path: Path) -> None:
    clock = Clock()
    note(tmp_path / "traces", {TASK: (0,)})
    put(tmp_path / "traces", [trace(0)])
    watch = Watch(tmp_path, tmp_path / "work", clock=clock)
    while watch.step():
        pass
    assert state_of(watch)["phase"] == "scoring"
    results_in(tmp_path, clock.now)
    watch.step()
    assert (state_of(watch)["phase"], watch.report) == ("scoring", None)
    clock.now += 3
    watch.step()
    assert (state_of(watch)["phase"], state_of(watch)["report"]) == ("finished", True)
    assert watch.report == tmp_path / "work" / "report"
    assert (watch.report / "index.html").is_file()
    note(tmp_path / "traces", {TASK: (0, 1)}, started=clock.now + 60)
    clock.now += 70
    watch.step()
    assert (state_of(watch)["phase"], watch.report) == ("answering", None)


def test_a_report_in_the_runs_folder_is_shown_while_it_is_the_newer(tmp_path: Path) -> None:
    results = results_in(tmp_path, STARTED)
    made = tmp_path / "report"
    made.mkdir()
    for name in ("index.html", "files.json"):
        (made / name).write_text("{}")
    watch = Watch(tmp_path, tmp_path / "work")
    watch.step()
    assert watch.report == made
    os.utime(results, (STARTED * 1e6, STARTED * 1e6))
    watch = Watch(tmp_path, tmp_path / "work", clock=lambda: STARTED * 1e6 + 10)
    watch.step()
    assert watch.report == tmp_path / "work" / "report"


def test_results_from_the_future_are_shown_too(tmp_path: Path) -> None:
    results_in(tmp_path, STARTED + 3600)
    watch = Watch(tmp_path, tmp_path / "work", clock=Clock())
    watch.step()
    assert state_of(watch)["phase"] == "finished"


def test_results_that_cannot_be_read_are_said_once(tmp_path: Path) -> None:
    results_in(tmp_path, STARTED).write_text("{")
    os.utime(tmp_path / "20260101_000000_results.json", (STARTED, STARTED))
    watch = Watch(tmp_path, tmp_path / "work")
    watch.step()
    assert (state_of(watch)["phase"], state_of(watch)["report"]) == ("finished", False)
    assert "cannot be read" in state_of(watch)["problem"]
