"""What `dualfocus view` shows of a folder, from the first question of a run to its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import visible
from dualfocus_eval.traces.progress import ProgressFormatError
from dualfocus_eval.viewing.live import LiveRun
from dualfocus_eval.viewing.notes import RunNotes, find_notes

__all__ = ["Watch"]

_RESULTS, _SAMPLES = "*_results.json", "*_samples_*.jsonl"
_SETTLED = 3.0
"""Seconds for which nothing was written to results and samples when a run has ended: samples follow the results."""


class Watch:
    """A run's folder, or the results file of a finished run.

    ``state`` is what the page asks for, as JSON; ``report`` is the folder of the run's report once there is one. Both
    may be read by other threads while `step` works. Below ``work`` a report is made where the run has none.

    Raises ``UserError`` where ``place`` does not exist.
    """

    def __init__(self, place: Path, work: Path, *, clock: Callable[[], float] = time.time) -> None:
        if not place.exists():
            raise UserError(f"{place} does not exist; name the --output_path of a run")
        self.place, self._work, self._clock = place, work, clock
        self.report: Path | None = None
        self.state = b"{}"
        self._live: LiveRun | None = None
        self._problem = ""
        self._reported: tuple[float, ...] = ()
        self._publish("waiting")

    def step(self) -> bool:
        """Look at the folder once; whether there is more to do at once."""
        notes = self._notes()
        times = self._times(notes.started if notes else 0.0)
        if not times:
            self.report, self._reported = None, ()
            return self._follow(notes)
        if times == self._reported:
            return False
        if abs(self._clock() - times[-1]) < _SETTLED:  # later than now: files of a machine with another clock
            self._publish("scoring")
            return False
        if self._live and self._read(self._live):
            return True  # what was answered last is shown before the report
        self._reported = times
        self._make_report()
        return False

    def _notes(self) -> RunNotes | None:
        if self.place.is_file():
            return None
        try:
            return find_notes(self.place)
        except ProgressFormatError as error:
            self._problem = str(error)
            return None

    def _times(self, since: float) -> tuple[float, ...]:
        """When the results and samples of a run that was scored after ``since`` were written; none before that."""
        results = [self.place] if self.place.is_file() else [*self.place.rglob(_RESULTS)]
        newest = [path for path in results if _written(path) >= since]
        samples = [path for folder in {path.parent for path in newest} for path in folder.glob(_SAMPLES)]
        return tuple(sorted(_written(path) for path in (*newest, *samples)))

    def _follow(self, notes: RunNotes | None) -> bool:
        """Show a run that has not ended."""
        if notes is None:
            self._publish("waiting")
            return False
        self._problem = ""
        if self._live is None or notes.by_file != self._live.notes.by_file:
            self._live = LiveRun(notes, self.place, clock=self._clock)
        return self._read(self._live)

    def _read(self, live: LiveRun) -> bool:
        """Show what is new, and score some of it; whether there is more to score."""
        live.refresh()
        self._publish("scoring" if live.complete else "answering")
        more = live.score()
        self._publish("scoring" if live.complete else "answering")
        return more

    def _make_report(self) -> None:
        self._publish("reporting")
        try:
            self.report, self._problem = _current_report(self.place) or _made_report(self.place, self._work), ""
        except UserError as error:
            self.report, self._problem = None, str(error)
        self._publish("finished")

    def _publish(self, phase: str) -> None:
        """Let the page see what is known: ``phase`` is waiting, answering, scoring, reporting or finished."""
        state = {
            "phase": phase,
            "place": str(self.place),
            "report": self.report is not None,
            "problem": self._problem,
            "run": self._live.snapshot() if self._live else None,
        }
        self.state = json.dumps(_shown(state), allow_nan=False).encode()


def _shown(value: Any) -> Any:
    """A value for JSON, its texts as `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone since it was listed
        return 0.0


def _current_report(place: Path) -> Path | None:
    """A report in the run's folder that is newer than its results."""
    made = place / "report" / "index.html"
    listed = place / "report" / "files.json"
    results = [_written(path) for path in place.rglob(_RESULTS)] if place.is_dir() else []
    if results and made.is_file() and listed.is_file() and _written(made) >= max(results):
        return made.parent
    return None


def _made_report(place: Path, work: Path) -> Path:
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.report.writing import report_run

    return report_run(read_run(place), work / "report").parent
