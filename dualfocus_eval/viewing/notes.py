"""A running run as its processes noted it: what is asked, and which traces answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dualfocus_eval.traces.progress import Progress, progress_files, read_progress
from dualfocus_eval.traces.record import Trace

__all__ = ["RunNotes", "find_notes"]


@dataclass(frozen=True)
class RunNotes:
    """The notes of all processes of the run that last began in a trace folder."""

    folder: Path
    by_file: Mapping[str, Progress]
    """By the name of the trace file of the same process; that of the first process is there."""
    missing: int
    """Processes that have not noted anything yet: what they ask is not known."""

    @property
    def first(self) -> Progress:
        """The note of the first process, which speaks for the run."""
        return next(iter(self.by_file.values()))

    @property
    def started(self) -> float:
        """When the first process asked its first question, in seconds since 1970."""
        return self.first.started

    @cached_property
    def asked(self) -> dict[str, frozenset[int]]:
        """By task, in the order of the run: the numbers of the documents asked about."""
        found: dict[str, set[int]] = {}
        for note in self.by_file.values():
            for task, documents in note.questions.items():
                found.setdefault(task, set()).update(documents)
        return {task: frozenset(documents) for task, documents in found.items()}

    def place_of(self, trace: Trace) -> tuple[str, int] | None:
        """Task and document of a trace that answers one of the questions, else None."""
        if trace.settings_key != self.first.settings_key or trace.arithmetic != self.first.arithmetic:
            return None
        task, _, number = trace.key.rpartition("/")
        if not number.isdecimal() or int(number) not in self.asked.get(task, ()):
            return None
        return task, int(number)

    def is_new(self, path: Path, offset: int) -> bool:
        """Whether the line of a trace file at this place, in bytes, was written by this run and not before it."""
        note = self.by_file.get(path.name)
        return note is not None and offset >= note.trace_bytes

    @property
    def arguments(self) -> Mapping[str, Any]:
        """lmms-eval's arguments that scoring needs."""
        return self.first.arguments


def find_notes(place: Path) -> RunNotes | None:
    """The notes of a run whose ``--output_path`` or trace folder is ``place``; None where its first process has left
    none (yet).

    Those of more processes than the run has are of an earlier run. Raises `ProgressFormatError` for a damaged note.
    """
    for folder in (place / "traces", place):
        try:
            notes = {path.stem: read_progress(path) for path in progress_files(folder)}
        except OSError:  # replaced while it was listed; the next look finds it
            continue
        if first := notes.get("progress.rank0000"):
            end = f"progress.rank{first.processes:04d}"
            kept = {f"traces{name.removeprefix('progress')}.jsonl": note for name, note in notes.items() if name < end}
            return RunNotes(folder, kept, first.processes - len(kept))
    return None
