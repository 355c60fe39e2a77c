"""Traces read back from the files of all ranks: which lines count, and what was wrong with the others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualfocus_eval.common.files import open_regular
from dualfocus_eval.traces.record import Trace, TraceFormatError

__all__ = ["COMPLETE", "LoadCounts", "completeness", "join_traces", "read_traces", "trace_files"]

_log = logging.getLogger(__name__)


@dataclass
class LoadCounts:
    """What reading the files of all ranks found."""

    loaded: int = 0
    other_settings: int = 0
    """Traces of other settings, checkpoints or versions of the method: not reused."""
    other_arithmetic: int = 0
    """Traces of these settings that other versions, another precision or another device computed."""
    damaged: int = 0
    """Lines that are no trace of this version."""
    truncated: int = 0
    """Files whose last line was cut off, as by a kill or a full disk; that question is answered again."""
    unreadable: int = 0
    """Files, or folders of a trace file's name, that cannot be read."""


def trace_files(folder: Path | str) -> list[Path]:
    """The trace files of all ranks, in order."""
    return sorted(Path(folder).glob("traces.rank*.jsonl"))


def join_traces(
    source: Path | str | Iterable[Path], settings_key: str | None = None, *, counts: LoadCounts | None = None
) -> Iterator[Trace]:
    """One trace per question and arithmetic from the files of all ranks in a folder (or from the files given).

    Of several traces of a question the last one counts that no failure of the engine impaired; an impaired or failed
    one only where there is no better. Lines that are damaged, cut off or (with ``settings_key``) of other settings are
    left out and counted in ``counts``.
    """
    counts = counts if counts is not None else LoadCounts()
    traces: dict[tuple[object, ...], Trace] = {}
    for trace in read_traces(source, settings_key, counts):
        identity = (trace.settings_key, trace.key, trace.question_digest, *sorted(trace.arithmetic.items()))
        if identity not in traces or completeness(trace) >= completeness(traces[identity]):
            traces[identity] = trace
    counts.loaded += len(traces)
    yield from traces.values()


def read_traces(
    source: Path | str | Iterable[Path],
    settings_key: str | None,
    counts: LoadCounts,
    arithmetic: Mapping[str, str] | None = None,
) -> Iterator[Trace]:
    """Every trace in the order of the files, one in memory at a time; duplicates are left to the caller.

    With ``settings_key`` and ``arithmetic``, those of others are left out and counted.
    """
    for path in trace_files(source) if isinstance(source, str | Path) else source:
        for trace in _read(path, counts):
            if settings_key is not None and trace.settings_key != settings_key:
                counts.other_settings += 1
            elif arithmetic is not None and trace.arithmetic != arithmetic:
                counts.other_arithmetic += 1
            else:
                yield trace


COMPLETE = 2


def completeness(trace: Trace) -> int:
    """0: failed; 1: answered, but an engine's failure took something away; 2: as good as it gets."""
    return 0 if trace.error else 1 if trace.cause else COMPLETE


def _read(path: Path, counts: LoadCounts) -> Iterator[Trace]:
    try:
        with open_regular(path) as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    yield Trace.from_json(line)
                except TraceFormatError:
                    if line.endswith(b"\n"):
                        counts.damaged += 1
                    else:
                        counts.truncated += 1
    except OSError as error:
        _log.warning("%s cannot be read: %s", path, error.strerror)
        counts.unreadable += 1
