"""Trace files read while other processes append to them: every complete line once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dualfocus_eval.common.files import open_regular
from dualfocus_eval.traces.record import Trace, TraceFormatError
from dualfocus_eval.traces.trace_files import trace_files

__all__ = ["TraceTail"]


@dataclass
class _Place:
    """How far one file was read."""

    inode: int = -1
    offset: int = 0
    damaged: int = 0


@dataclass
class TraceTail:
    """What is new in a folder's trace files.

    The end of a file that is no whole line yet is left for the next time. A file that was cut or replaced is read
    again from its beginning.
    """

    folder: Path
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why files cannot be read, by their names; as of the last reading."""
    _places: dict[Path, _Place] = field(default_factory=dict)

    @property
    def damaged(self) -> int:
        """Complete lines that are no traces of this version."""
        return sum(place.damaged for place in self._places.values())

    @property
    def written(self) -> float | None:
        """When a file was last written to, in seconds since 1970; None without any file."""
        times = []
        for path in trace_files(self.folder):
            try:
                times.append(path.stat().st_mtime)
            except OSError:  # gone since it was listed
                continue
        return max(times, default=None)

    def read(self) -> Iterator[tuple[Path, int, Trace]]:
        """Every trace since the last reading, with its file and the place of its line there in bytes."""
        self.unreadable.clear()
        for path in trace_files(self.folder):
            try:
                yield from self._read(path, self._places.setdefault(path, _Place()))
            except OSError as error:
                self.unreadable[path.name] = error.strerror or type(error).__name__

    def _read(self, path: Path, place: _Place) -> Iterator[tuple[Path, int, Trace]]:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            if found.st_ino != place.inode or found.st_size < place.offset:
                place.inode, place.offset, place.damaged = found.st_ino, 0, 0
            file.seek(place.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                begin, place.offset = place.offset, place.offset + len(line)
                if not line.strip():
                    continue
                try:
                    trace = Trace.from_json(line)
                except TraceFormatError:
                    place.damaged += 1
                    continue
                yield path, begin, trace
