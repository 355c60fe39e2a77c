"""The JSONL store of traces: what was answered survives a crash, a kill and a full disk."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from dualfocus_eval.common.files import check_regular, try_lock
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import COMPLETE, LoadCounts, completeness, join_traces

__all__ = ["StoreInUseError", "TraceStore"]

_log = logging.getLogger(__name__)


class StoreInUseError(OSError):
    """Another live process writes this rank's file."""


class Identified(Protocol):
    """A question, as the store tells it from others."""

    @property
    def key(self) -> str:
        """Unique within a run and stable across runs."""
        ...

    @property
    def digest(self) -> str:
        """Hex digest of all that can change the answer, texts and images."""
        ...


class TraceStore:
    """Traces of one run's settings in a folder, one append-only file per rank; a rerun resumes from all of them.

    An answer is reused if its settings key and its arithmetic (`engines.environment.arithmetic_of`; None: unknown) are
    the run's. Answers of the same key and another arithmetic are named in `not_reused`.

    Each line reaches the operating system in one write before `put` returns, so an answer survives the death of the
    process; `close` also forces it to the disk, so only a power cut in mid-run can lose answers. A failed write is
    undone, counted in ``write_failures`` by error name and tried again with the next answer, while the run goes on.
    Should the file be deleted, replaced or cut in mid-run, what is lost is written anew, and counted in ``rewritten``.

    Raises StoreInUseError when another live process writes the same rank's file, OSError when the folder cannot be
    made or the file is not a regular one.
    """

    def __init__(
        self, folder: Path | str, settings_key: str, *, arithmetic: Mapping[str, str] | None = None, rank: int = 0
    ) -> None:
        self.folder = Path(folder)
        self.settings_key = settings_key
        self.arithmetic = dict(arithmetic or {})
        self.path = self.folder / f"traces.rank{rank:04d}.jsonl"
        self.counts = LoadCounts()
        self._lock = threading.Lock()
        self.reused = 0
        self.write_failures: dict[str, int] = {}
        self._unwritten: list[bytes] = []
        self._impaired: dict[tuple[str, str], Trace] = {}
        self._vanished = 0
        self._closed = False
        self._open()
        self._answered: dict[tuple[str, str], Trace] = {}
        foreign: dict[tuple[str, str], Mapping[str, str]] = {}
        for trace in join_traces(self.folder, settings_key, counts=self.counts):
            if completeness(trace) < COMPLETE:
                continue
            if trace.arithmetic == self.arithmetic:
                self._answered[trace.key, trace.question_digest] = trace
            else:
                foreign[trace.key, trace.question_digest] = trace.arithmetic
        reasons = Counter(
            _difference(theirs, self.arithmetic) for place, theirs in foreign.items() if place not in self._answered
        )
        self.not_reused = tuple(f"{count:,} stored answers {reason}" for reason, count in reasons.items())
        """Sentences on questions whose only stored answers are of another arithmetic: how many, and what differs."""

    @property
    def size(self) -> int:
        """Bytes of this rank's file, as far as they are known to be there."""
        return self._size

    @property
    def unwritten(self) -> int:
        """Answers that could not be written so far."""
        return len(self._unwritten)

    @property
    def rewritten(self) -> int:
        """Answers that were stored, vanished from the disk in mid-run and were written anew."""
        return max(0, self._vanished - self.unwritten)

    def get(self, question: Identified) -> Trace | None:
        """The stored answer to exactly this question (text and images).

        What an engine's failure led to (an error, or a fallback with a cause) is not reused but tried again.
        """
        with self._lock:
            trace = self._answered.get((question.key, question.digest))
            self.reused += trace is not None
        return trace

    def put(self, trace: Trace) -> None:
        """Append ``trace``; never raises for a disk that is full or broken."""
        kept = self._answered if completeness(trace) == COMPLETE else self._impaired
        with self._lock:
            kept[trace.key, trace.question_digest] = trace
            self._unwritten.append(_line(trace))
            self._write_out()

    def close(self) -> None:
        """Try once more to write what could not be written, force the file to disk and release it."""
        if self._closed:
            return
        self._write_out()
        self._closed = True
        self._release()

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = _open_locked(self.path)
        self._size = os.fstat(self._file).st_size

    def _release(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
        self._file = -1

    def _write_out(self) -> None:
        try:
            if not self._is_whole():
                self._recover()
            while self._unwritten:
                _append(self._file, self._unwritten[0])
                self._size = os.fstat(self._file).st_size
                del self._unwritten[0]
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "OSError")
            self.write_failures[name] = self.write_failures.get(name, 0) + 1
            _log.warning("%s: %s; %d answers kept in memory only", self.path, error.strerror, self.unwritten)

    def _is_whole(self) -> bool:
        """Whether the open file still stands at its path and has everything that was written to it."""
        try:
            held = os.fstat(self._file)
            return os.path.samestat(os.stat(self.path), held) and held.st_size >= self._size
        except OSError:
            return False

    def _recover(self) -> None:
        """Open the file at the path again, and find out which of all known answers are not stored any more."""
        known = self._impaired | self._answered
        self._vanished += len(known) - self.unwritten
        self._unwritten = [_line(trace) for trace in known.values()]  # so many are in danger until the file is open
        self._release()
        self._open()
        stored = {
            (trace.key, trace.question_digest)
            for trace in join_traces(self.folder, self.settings_key)
            if trace.arithmetic == self.arithmetic
        }
        self._unwritten = [_line(trace) for identity, trace in known.items() if identity not in stored]
        self._vanished -= len(known) - self.unwritten
        _log.warning(
            "%s was deleted or changed by another program; %d answers are written anew", self.path, self.unwritten
        )


def _line(trace: Trace) -> bytes:
    return trace.to_json().encode() + b"\n"


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    if not theirs:
        return "are not reused: they do not say which versions and which device computed them"
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    here, there = (", ".join(f"{name} {of.get(name, '(none)')}" for name in names) for of in (ours, theirs))
    return f"of {there} are not reused: this run has {here}"


def _open_locked(path: Path) -> int:
    if path.exists():
        check_regular(path)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    if not try_lock(file):
        os.close(file)
        raise StoreInUseError(
            f"{path}: another run is writing its answers here; wait for it, or pass another trace_dir"
        )
    return file


def _append(file: int, line: bytes) -> None:
    """Write the whole line, or leave the file as it was and raise OSError."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # A line that was cut off before keeps its own, so that this one can be read.
        line = b"\n" + line
    try:
        written = 0
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise
