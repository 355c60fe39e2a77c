"""After a run: are lmms-eval's files whole, and do they agree with the run and its traces?

lmms-eval logs a file that it cannot write and goes on. It does not notice a disk that fills while it writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dualfocus_eval.traces.trace_files import LoadCounts, read_traces

__all__ = ["file_faults", "results_file"]

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""By task: the rows of its sample file."""


_RESULTS = "_results.json"


def results_file(output_path: str, results: Mapping[str, Any]) -> Path:
    """Where lmms-eval writes these results below ``output_path``."""
    folder = Path(output_path) / str(results.get("model_name_sanitized"))
    return folder / f"{str(results['date']).replace(':', '-')}{_RESULTS}"


def file_faults(output_path: str, results: Mapping[str, Any], samples: Samples | None) -> list[str]:
    """What is wrong with the files of a run below ``output_path``; empty when they hold all of it.

    ``results`` and ``samples`` are what lmms-eval has just written; ``samples`` is None where none were asked for.
    """
    path = results_file(output_path, results)
    begin = path.name.removesuffix(_RESULTS)
    faults = [_text_fault(path, _dumped(results, indent=2))]
    record = results.get("dualfocus")
    for task, rows in (samples or {}).items():
        faults.append(_rows_fault(path.with_name(f"{begin}_samples_{task}.jsonl"), rows))
        if record:
            faults.append(_count_fault(task, rows, record))
    if samples and record and not record["summary"]["unwritten"]:
        faults.append(_trace_fault(samples, record))
    return [fault for fault in faults if fault]


def _dumped(value: Any, indent: int | None = None) -> str:
    from lmms_eval.utils import handle_non_serializable

    return json.dumps(value, indent=indent, default=handle_non_serializable, ensure_ascii=False)


def _text_fault(path: Path, expected: str) -> str | None:
    try:
        found = path.read_bytes()
    except OSError as error:
        return f"{path} is missing: lmms-eval could not write it ({error.strerror})"
    wanted = expected.encode(errors="surrogatepass")
    return None if found == wanted else f"{path} is damaged: it has {len(found):,} bytes and not {len(wanted):,}"


def _rows_fault(path: Path, rows: Sequence[Mapping[str, Any]]) -> str | None:
    try:
        for number, (line, row) in enumerate(zip_longest(_lines(path), rows)):
            if line is None or row is None or line != (_dumped(row) + "\n").encode(errors="surrogatepass"):
                return f"{path} is damaged: row {number + 1} of {len(rows):,} is not what was scored"
    except OSError as error:
        return f"{path} is missing: lmms-eval could not write it ({error.strerror})" if rows else None
    return None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _count_fault(task: str, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> str | None:
    asked = record["tasks"].get(task, {}).get("questions", 0)
    found = len({row["doc_id"] for row in rows})
    return None if found == asked else f"task {task}: {asked:,} questions were asked, {found:,} are in the samples"


def _trace_fault(samples: Samples, record: Mapping[str, Any]) -> str | None:
    """Whether each answer in the samples is stored: a rerun and the reports take it from there.

    Either candidate will do. A trace that an earlier run stored has what that run's rule selected.
    """
    missing = {
        f"{task}/{row['doc_id']}": row["dualfocus"]["answer"]
        for task, rows in samples.items()
        for row in rows
        if "answer" in (row.get("dualfocus") or {})  # likelihoods are not stored
    }
    wanted = record["traces"], record["settings_key"], LoadCounts(), record.get("arithmetic")
    for trace in read_traces(*wanted) if missing else ():
        texts = {trace.text, *(candidate.text for candidate in (trace.macro, trace.micro) if candidate)}
        if missing.get(trace.key) in texts:
            del missing[trace.key]
    if not missing:
        return None
    return f"{len(missing):,} answers in the samples have no trace in {record['traces']} (first: {next(iter(missing))})"
