"""A finished run read back: lmms-eval's results joined with our traces, both candidates scored by their task.

One run shows what macro alone, micro alone, every selection rule and the oracle are worth. Files are streamed: a line
is in memory only until its row is made. Whatever cannot be used is left out, counted and named (`Run.faults`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dualfocus_eval.analysis.calibrated import calibration_of, fitted_on
from dualfocus_eval.analysis.finding import newest_results, only_results
from dualfocus_eval.analysis.joining import TraceRows, answers_table, read_task
from dualfocus_eval.analysis.rows import trace_row
from dualfocus_eval.analysis.runs import Fault, Run
from dualfocus_eval.analysis.scoring import included_folders, load_tasks, predicted_only, run_argument
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.garbage import uncollected
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.method.settings import not_installed, stored_settings
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import LoadCounts, completeness, read_traces, trace_files

__all__ = ["best_traces", "find_traces", "read_run"]


def read_run(place: Path, *, only: bool = False, calibration: Calibration | None = None) -> Run:
    """The newest run below the folder ``place``, or the one of that results file; with ``only`` the folder's only run.

    ``calibration`` is a calibrated choice to be shown beside the run's own rules, if the run was not decided by one.
    A run of another model, or one whose traces are gone, is read as far as it goes. Raises ``UserError`` where there
    are no results to read, where it is not clear which run is the newest, and with ``only`` where there are several.
    """
    path, faults = (only_results(place), []) if only else newest_results(place)
    with uncollected():
        return _read(place, path, faults, calibration)


def _read(place: Path, path: Path, faults: list[Fault], given: Calibration | None) -> Run:
    results = _read_json(path)
    record, remarks = _record(results)
    calibration = calibration_of(record, given, path)
    samples = _sample_files(path, results)
    files = find_traces(record, path, place) if record else []
    rows, reading = _trace_rows(record, files, calibration) if record else (TraceRows(), [])
    faults += remarks + reading
    traced = record if rows.newest else None
    included, unusable_folders = included_folders(results, place if place.is_dir() else path.parent)
    scored = not predicted_only(results)
    if not scored:
        faults.append(Fault(1, "run was made with --predict_only: it has no scores", harmless=True))
    tasks, unloaded = load_tasks(list(samples), included) if samples and scored else ({}, {})
    if included:
        faults.append(Fault(len(included), f"folders of the user's own tasks: {', '.join(included)}", harmless=True))
    for name, why in unloaded.items():
        reasons = "; ".join([why, *unusable_folders])
        faults.append(Fault(1, f"task cannot be scored again ({name}: {reasons}): its scores are lmms-eval's own"))
    if not samples:
        faults.append(Fault(1, "run has no sample files beside its results: only its totals are known (--log_samples)"))
    for name in [name for name in results["n-samples"] if samples and name not in samples]:
        faults.append(Fault(1, f"sample file is missing (task {name}): only the task's totals are known"))
        for key in [key for key in rows.newest if key.rpartition("/")[0] == name]:
            del rows.newest[key]
    parts, metrics = [], {}
    for name, file in samples.items():
        part, metrics[name], found = read_task(name, file, tasks.get(name), rows, results, traced)
        parts.append(part)
        faults += found
    answers = pd.concat(parts, ignore_index=True) if parts else answers_table([])
    if rows.newest and samples:
        faults.append(Fault(len(rows.newest), "traces are of questions that this run did not ask", harmless=True))
    folder = files[0].parent if files else None
    run = Run(path, results, record, answers, tasks, metrics, trace_folder=folder, calibration=calibration)
    return replace(run, faults=(*_failed(run), *fitted_on(run), *faults))


def _failed(run: Run) -> list[Fault]:
    counted = "" if predicted_only(run.results) else "; the run's scores count them as if they had been answered"
    faults = []
    for task, found in run.failures.items():
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in found.kinds.most_common())
        what = f"of {found.asked:,} questions failed ({kinds}){counted} (task {task})"
        faults.append(Fault(found.kinds.total(), what))
    return faults


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; name another results file, or run again") from error
    if not isinstance(results, dict) or "results" not in results:
        raise UserError(f"{path} is not a results file of lmms-eval: it has no part `results`")
    for name in _BY_TASK:
        part = results[name] = results.get(name) or {}
        if not isinstance(part, dict) or not all(isinstance(values, dict) for values in part.values()):
            raise UserError(f"{path} is not a results file of lmms-eval: its part `{name}` is not a table by task")
    if not isinstance(results.get("config"), dict):
        results["config"] = {}
    sizes = results["n-samples"].items()
    results["n-samples"] = {name: size for name, size in sizes if type(size.get("effective")) is int}
    for config in results["configs"].values():
        listed = config.get("metric_list")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) and "metric" in entry for entry in listed):
            config.pop("metric_list", None)
    return results


_BY_TASK = ("results", "configs", "n-samples")
"""Parts of the results that have an object for each task; empty where the file lacks them."""


_RECORDED: Mapping[str, type] = {"settings": dict, "settings_from": dict, "settings_key": str, "traces": str}
"""What the reports need of our model's record (`harness.session.Session.record`), beside the engine's checkpoint."""
_IF_THERE: Mapping[str, type] = {
    "environment": dict,
    "summary": dict,
    "checkpoint": str,
    "arithmetic": dict,
    "tasks": dict,
}
"""What an earlier version's record may lack."""


def _record(results: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, list[Fault]]:
    """What our model left in the results, and remarks on it; None where that is nothing or cannot be used."""
    record = results.get("dualfocus") or run_argument(results, "dualfocus")  # earlier versions: among the arguments
    if not isinstance(record, dict):
        what = "run is not of --model dualfocus: there are no traces, only its own scores"
        return None, [Fault(1, what, harmless=True)]
    wrong = [name for name, kind in _RECORDED.items() if not isinstance(record.get(name), kind)]
    wrong += [name for name, kind in _IF_THERE.items() if name in record and not isinstance(record[name], kind)]
    try:
        dict(record.get("environment", {}).get("packages", {}))
        dict(record.get("environment", {}).get("abilities", {}))
        int(record.get("summary", {}).get("resumed", 0))
        for counts in record.get("tasks", {}).values():
            sum([counts["questions"], *counts["failures"].values()])
        record = record | {"settings": stored_settings(record["settings"])}
        str(record["engine"]["pretrained"])
        [str(address) for address in record["engine"].get("base_url", ())]
    except (UserError, TypeError, KeyError, ValueError, AttributeError) as error:
        wrong = [*wrong, str(error)]
    if wrong:
        why = ", ".join(wrong)
        return None, [
            Fault(1, f"record of --model dualfocus cannot be used ({why}): only the run's own scores are known")
        ]
    if foreign := not_installed(record["settings"]):
        names = ", ".join(f"{setting}={name}" for setting, name in foreign.items())
        what = f"of the run's extensions not installed here ({names}): the report has what the traces say of them"
        return record, [Fault(len(foreign), what, harmless=True)]
    return record, []


def _sample_files(path: Path, results: Mapping[str, Any]) -> dict[str, Path]:
    """The sample file of each task, in the order in which the tasks ran."""
    prefix = path.name.removesuffix("_results.json") + "_samples_"
    found = (file for file in sorted(path.parent.glob(f"{prefix}*.jsonl")) if file.is_file())
    files = {file.stem.removeprefix(prefix): file for file in found}
    order = [name for name in results["n-samples"] if name in files]
    return {name: files[name] for name in dict.fromkeys([*order, *files])}


def _trace_rows(
    record: Mapping[str, Any], files: Sequence[Path], calibration: Calibration | None
) -> tuple[TraceRows, list[Fault]]:
    rows = TraceRows(fitted=calibration)
    if not files:
        return rows, [Fault(1, f"trace folder is missing ({record['traces']}): only the run's own scores are known")]
    counts = LoadCounts()
    for trace in best_traces(files, record, counts):
        rows.newest.setdefault(trace.key, {})[trace.question_digest] = trace_row(trace, calibration)
    where = f"in {files[0].parent}"
    faults = [
        Fault(counts.truncated, f"trace files end in a line that was cut off ({where})"),
        Fault(counts.unreadable, f"trace files cannot be read ({where})"),
        Fault(counts.damaged, f"lines are no traces of this version ({where})"),
        Fault(counts.other_settings, f"traces are of other settings or checkpoints ({where})", harmless=True),
        Fault(counts.other_arithmetic, f"traces are of other versions, precisions or devices ({where})", harmless=True),
        Fault(not rows.newest, f"run without any usable trace ({where}): only its own scores are known"),
    ]
    return rows, [fault for fault in faults if fault.count]


def best_traces(files: Sequence[Path], record: Mapping[str, Any], counts: LoadCounts) -> Iterator[Trace]:
    """A run's traces in the order of its files, each of them no worse than those of the same question before it."""
    best: dict[tuple[str, str], int] = {}
    for trace in read_traces(files, record["settings_key"], counts, record.get("arithmetic")):
        rank = completeness(trace)
        identity = (trace.key, trace.question_digest)
        if rank >= best.get(identity, 0):
            best[identity] = rank
            yield trace


def find_traces(record: Mapping[str, Any], path: Path, place: Path) -> list[Path]:
    """The trace files: beside the results, since a copied run takes them along, or else where the run wrote them.

    Of several such folders it is the first that has traces of this run's settings and arithmetic.
    """
    beside = [folder / "traces" for folder in (path.parent, path.parent.parent, place)]
    folders = dict.fromkeys(folder.resolve() for folder in (*beside, Path(record["traces"])))
    found = [files for folder in folders if (files := trace_files(folder))]
    if len(found) > 1:
        wanted = record["settings_key"], LoadCounts(), record.get("arithmetic")
        found = [files for files in found if any(True for _ in read_traces(files, *wanted))] or found
    return found[0] if found else []
