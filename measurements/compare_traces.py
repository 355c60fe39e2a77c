"""Whether two runs gave the same answers, by their traces: every text, box, crop, log-probability, pick and selection.

    python -m measurements.compare_traces OLD NEW [--tolerance 1e-6]

OLD and NEW are folders that hold ``traces.rank*.jsonl`` files, at any depth, of any trace version. What says how and
when a run was made (settings key, versions, cost) is not compared. Prints counts and the first differences; exit
status 1 where there is any difference, or nothing to compare, and 2 where a folder has no traces.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import LoadCounts, join_traces

__all__ = ["differences", "main"]

NOT_COMPARED = frozenset({"key", "question_digest", "settings_key", "arithmetic", "cost", "version", "gap"})
"""Beside a completion's gap, which depends on the machine as log-probabilities do and is unknown in old traces."""
SHOWN = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two folders; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m measurements.compare_traces", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of numbers, in nats (default: %(default)s)")
    chosen = parser.parse_args(argv)
    try:
        old, new = _traces(chosen.old), _traces(chosen.new)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    both = [question for question in old if question in new]
    found = {key: list(differences(old[key, digest], new[key, digest], chosen.tolerance)) for key, digest in both}
    lines = [f"{key}: {difference}" for key, of_question in found.items() for difference in of_question]
    lines += [f"{key} ({digest}): only in {chosen.old}" for key, digest in old if (key, digest) not in new]
    lines += [f"{key} ({digest}): only in {chosen.new}" for key, digest in new if (key, digest) not in old]
    versions = ", ".join(f"{where} {len(traces):,}" for where, traces in ((chosen.old, old), (chosen.new, new)))
    equal = sum(not of_question for of_question in found.values())
    print(f"questions: {versions}; in both: {len(both):,}; equal: {equal:,}; differences: {len(lines):,}")
    print("\n".join(lines[:SHOWN] + ["..."] * (len(lines) > SHOWN)))
    return int(bool(lines) or not both)


def differences(old: Trace, new: Trace, tolerance: float) -> Iterator[str]:
    """Where two traces of one question differ, one line for each value."""
    yield from _differences("", asdict(old), asdict(new), tolerance)


def _differences(place: str, old: Any, new: Any, tolerance: float) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            if name not in NOT_COMPARED:
                inner = f"{place}.{name}" if place else str(name)
                yield from _differences(inner, old.get(name), new.get(name), tolerance)
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{place}[{number}]", *pair, tolerance)
    elif not _same(old, new, tolerance):
        yield f"{place}: {old!r} -> {new!r}"


def _same(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= tolerance or (old != old and new != new)
    return bool(old == new)


def _traces(folder: Path) -> dict[tuple[str, str], Trace]:
    """The traces below ``folder`` by question key and digest."""
    files = sorted(folder.rglob("traces.rank*.jsonl"))
    counts = LoadCounts()
    found: dict[tuple[str, str], Trace] = {}
    settings: Counter[str] = Counter()
    for trace in join_traces(files, counts=counts):
        found[trace.key, trace.question_digest] = trace
        settings[trace.settings_key] += 1
    if counts.damaged or counts.truncated or counts.unreadable:
        raise UserError(f"{folder}: lines or files cannot be read: {counts}")
    if not found:
        raise UserError(f"{folder}: there are no traces (traces.rank*.jsonl) in it or below it")
    if len(settings) > 1:
        raise UserError(f"{folder} holds traces of {len(settings)} settings; give folders of one run each")
    return found


if __name__ == "__main__":
    sys.exit(main())
