"""A finished run read back: lmms-eval's results joined with our traces, both candidates scored by their task.

One run shows what macro alone, micro alone, every selection rule and the oracle are worth. Files are streamed: a line
is in memory only until its row is made. Whatever cannot be used is left out, counted and named (`Run.faults`).
"""

from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.errors import UserError
from dualfocus_eval.method.store import LoadCounts, completeness, read_traces, trace_files
from dualfocus_eval.report.choices import Choice, available_choices, picked_micro, rule_choice
from dualfocus_eval.report.rows import NO_TRACE, TRACE_COLUMNS, TRACE_TYPES, pick_column, trace_row
from dualfocus_eval.report.scoring import document_reader, load_tasks, main_metric, own_scoring, score_of

__all__ = ["Fault", "Run", "read_run"]

Metrics = Mapping[str, Any]
"""A task's ``process_results`` for one answer: a record for each of its metrics."""


@dataclass(frozen=True)
class Fault:
    """Something in the files that could not be used, or that the reader should know."""

    count: int
    what: str
    harmless: bool = False
    """It takes nothing away from the report: the run itself is whole."""

    def __str__(self) -> str:
        return f"{self.count:,} {self.what}"


@dataclass(frozen=True)
class Run:
    """One run. ``answers`` has a row per question, tasks in the order of the run, documents in theirs.

    Columns: ``task``, ``doc_id``, ``key``, ``question`` (the prompt), ``target``, ``answer`` (the text that lmms-eval
    scored), ``traced``; ``score_selected`` (lmms-eval's own), ``score_macro``, ``score_micro`` (1 is right; micro falls
    back to macro; NaN without a trace); ``truth_x1`` ... ``truth_y2`` (the document's ``box``, as fractions of the
    image); and `rows.TRACE_COLUMNS`. ``cluster`` tells which questions share an image.
    """

    path: Path
    """lmms-eval's results file."""
    results: Mapping[str, Any]
    """What is in it."""
    record: Mapping[str, Any] | None
    """What the model left in the results (`harness.run.Run.record`); None for a run of another model."""
    answers: pd.DataFrame
    tasks: Mapping[str, Any] = field(default_factory=dict)
    """lmms-eval's task objects by name, those that could be loaded."""
    metrics: Mapping[str, Mapping[Choice, Sequence[Metrics | None]]] = field(default_factory=dict)
    """By task: the scored records of ``macro``, ``micro`` and ``selected``, in the order of the task's rows."""
    faults: tuple[Fault, ...] = ()
    computed: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Numbers that several tables and figures need, kept by who computed them."""

    @property
    def name(self) -> str:
        """The folder's name, for headings."""
        return self.path.parent.name

    @property
    def seconds(self) -> float:
        """Wall time of the evaluation, model loading included; NaN where the results do not say."""
        return float(self.results.get("total_evaluation_time_seconds") or math.nan)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved settings of the method; empty for a run of another model."""
        return self.record["settings"] if self.record else {}

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the answer that this run allows; without any trace only its own."""
        return available_choices(self.settings) if self.record and self._traced.any() else ("selected",)

    @property
    def shown_choices(self) -> dict[Choice, str]:
        """The choices worth a column, with their headings; a star marks the rule that decided.

        ``selected`` has a column of its own where it says more than that rule: with some questions untraced it is
        lmms-eval's own score over all of them.
        """
        headings: dict[Choice, str] = {choice: choice for choice in self.choices}
        if "oracle" in headings:
            deciding = rule_choice(self.settings["selection"])
            headings[deciding] = f"{deciding} *"
            if self._traced.all():
                del headings["selected"]
        return headings

    def shown_choices_of(self, task: str) -> dict[Choice, str]:
        """`shown_choices`; of a task without any trace only what the run selected."""
        return self.shown_choices if self.of(task)["traced"].any() else {"selected": "selected"}

    @property
    def _traced(self) -> pd.Series:
        return self.answers["traced"]

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.answers["task"]))

    def of(self, task: str) -> pd.DataFrame:
        """The rows of one task."""
        return self._by_task.get(task, self.answers.iloc[:0])

    @cached_property
    def _by_task(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.answers.groupby("task", sort=False)))

    def main_metric(self, task: str) -> str | None:
        """The metric that the task is known by."""
        return main_metric(self.results, task)

    def records(self, task: str, choice: Choice) -> list[Metrics | None]:
        """The scored records of one choice, in the order of the task's rows; None where the choice has none."""
        metrics = self.metrics[task]
        if choice in metrics:
            return list(metrics[choice])
        micro = picked_micro(self.of(task), choice)
        return [two if take else one for take, one, two in zip(micro, metrics["macro"], metrics["micro"], strict=True)]


def read_run(place: Path) -> Run:
    """The newest run below the folder ``place`` (or the one of that results file).

    A run of another model, or one whose traces are gone, is read as far as it goes. Raises ``UserError`` where there
    are no results to read.
    """
    with _without_collection():
        return _read(place)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection: among millions of new objects without cycles it only costs time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(place: Path) -> Run:
    path, faults = _newest_results(place)
    results = _read_json(path)
    record = _record(results)
    samples = _sample_files(path, results)
    rows, reading = _trace_rows(record, path, place)
    faults += reading
    traced = record if rows.newest else None
    tasks, unloaded = load_tasks(list(samples)) if samples else ({}, {})
    faults += [Fault(1, f"task cannot be scored again ({name}: {why})") for name, why in unloaded.items()]
    if not samples:
        faults.append(Fault(1, "run has no sample files beside its results: only its totals are known (--log_samples)"))
    parts, metrics = [], {}
    for name, file in samples.items():
        part, metrics[name], found = _read_task(name, file, tasks.get(name), rows, results, traced)
        parts.append(part)
        faults += found
    answers = pd.concat(parts, ignore_index=True) if parts else _table([])
    if rows.newest and samples:
        faults.append(Fault(len(rows.newest), "traces are of questions that this run did not ask", harmless=True))
    return Run(path, results, record, answers, tasks, metrics, tuple(faults))


def _newest_results(place: Path) -> tuple[Path, list[Fault]]:
    if place.is_file():
        return place, []
    if not place.is_dir():
        raise UserError(f"{place} does not exist; name the --output_path of a run, or its *_results.json")
    # lmms-eval's names begin with date and time.
    found = sorted(place.rglob("*_results.json"), key=lambda path: (path.name, path.stat().st_mtime))
    if not found:
        raise UserError(f"{place} holds no results of lmms-eval (*_results.json): the run did not end, or is elsewhere")
    older = Fault(len(found) - 1, f"older runs are in {place} too; read is the newest, {found[-1]}", harmless=True)
    return found[-1], [older] if len(found) > 1 else []


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; name another results file, or run again") from error
    if not isinstance(results, dict) or "results" not in results:
        raise UserError(f"{path} is not a results file of lmms-eval: it has no part `results`")
    for name in _BY_TASK:
        part = results[name] = results.get(name) or {}
        if not isinstance(part, dict) or not all(isinstance(values, dict) for values in part.values()):
            raise UserError(f"{path} is not a results file of lmms-eval: its part `{name}` is not a table by task")
    if not isinstance(results.get("config"), dict):
        results["config"] = {}
    return results


_BY_TASK = ("results", "configs", "n-samples")
"""Parts of the results that have an object for each task; empty where the file lacks them."""


def _record(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What our model left among the arguments."""
    record = _flag(results, "dualfocus")
    return record if isinstance(record, dict) else None


def _sample_files(path: Path, results: Mapping[str, Any]) -> dict[str, Path]:
    """The sample file of each task, in the order in which the tasks ran."""
    prefix = path.name.removesuffix("_results.json") + "_samples_"
    files = {file.stem.removeprefix(prefix): file for file in sorted(path.parent.glob(f"{prefix}*.jsonl"))}
    order = [name for name in results["n-samples"] if name in files]
    return {name: files[name] for name in dict.fromkeys([*order, *files])}


@dataclass
class _TraceRows:
    """Rows of a run's traces: the best of each question, by key and then by question digest."""

    newest: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)

    def candidates(self, key: str) -> list[tuple[Any, ...]]:
        """The rows of this key, the last read first; several where the question itself has changed meanwhile.

        They are handed out once, so that they need no memory twice.
        """
        return list(reversed(self.newest.pop(key, {}).values()))


def _trace_rows(record: Mapping[str, Any] | None, path: Path, place: Path) -> tuple[_TraceRows, list[Fault]]:
    rows = _TraceRows()
    if record is None:
        return rows, [Fault(1, "run is not of --model dualfocus: there are no traces, only its own scores")]
    files = _find_traces(record, path, place)
    if not files:
        return rows, [Fault(1, f"trace folder is missing ({record['traces']}): only the run's own scores are known")]
    counts = LoadCounts()
    best: dict[tuple[str, str], int] = {}
    for trace in read_traces(files, record["settings_key"], counts):
        rank = completeness(trace)
        identity = (trace.key, trace.question_digest)
        if rank >= best.get(identity, 0):
            best[identity] = rank
            rows.newest.setdefault(trace.key, {})[trace.question_digest] = trace_row(trace)
    where = f"in {files[0].parent}"
    faults = [
        Fault(counts.truncated, f"trace files end in a line that was cut off ({where})"),
        Fault(counts.damaged, f"lines are no traces of this version ({where})"),
        Fault(counts.other_settings, f"traces are of other settings or checkpoints ({where})", harmless=True),
    ]
    return rows, [fault for fault in faults if fault.count]


def _find_traces(record: Mapping[str, Any], path: Path, place: Path) -> list[Path]:
    """The trace files, where the run wrote them or, after a move, beside its results."""
    folders = [Path(record["traces"]), path.parent / "traces", path.parent.parent / "traces", place / "traces"]
    return next((files for folder in folders if (files := trace_files(folder))), [])


def _read_task(
    name: str,
    file: Path,
    task: Any,
    rows: _TraceRows,
    results: Mapping[str, Any],
    record: Mapping[str, Any] | None,
) -> tuple[pd.DataFrame, dict[Choice, list[Metrics | None]], list[Fault]]:
    """One task's rows and records, in the order of its documents."""
    main, counts = main_metric(results, name), Counter[str]()
    cluster_key = results["configs"].get(name, {}).get("cluster_key")
    score = own_scoring(task, _flag(results, "reasoning_tags")) if task is not None and record else None
    document = document_reader(task) if score else None
    read: dict[int, tuple[tuple[Any, ...], tuple[Metrics | None, ...]]] = {}
    for sample in _samples(file, counts):
        doc_id = int(sample["doc_id"])
        if doc_id in read:
            counts["duplicate"] += 1
            continue
        official = {key: value for key, value in sample.items() if key not in _NOT_METRICS}
        key, selected = f"{name}/{doc_id}", score_of(official, main)
        score_doc = partial(_scored, document, score, doc_id) if document and score else None
        row, candidates = _matching(key, rows, score_doc, selected, main, record, counts)
        texts = (str(sample.get("input", "")), str(sample.get("target", "")), _text(sample.get("filtered_resps")))
        scores = [selected, *(math.nan if metrics is None else score_of(metrics, main) for metrics in candidates)]
        truth = _truth(document(doc_id), row) if document and row is not None else (math.nan,) * 4
        cells = row if row is not None else _without_trace(_image_name(official, main, cluster_key) or key)
        read[doc_id] = (
            (name, doc_id, key, *texts, row is not None, *scores, *truth, *cells),
            # Both candidates' records agree with lmms-eval's score; keeping its own too would double the memory.
            (*candidates, official if row is None or candidates == (None, None) else _selected(row, candidates)),
        )
    ordered = [read[doc_id] for doc_id in sorted(read)]
    expected = results["n-samples"].get(name, {}).get("effective", len(read))
    counts["lost"] = max(0, expected - len(read))
    found = [Fault(counts[kind], f"{what} (task {name})") for kind, what in _SAMPLE_FAULTS.items() if counts[kind]]
    choices: tuple[Choice, ...] = ("macro", "micro", "selected")
    metrics = {choice: [records[place] for _, records in ordered] for place, choice in enumerate(choices)}
    names = [_image_name(record, main, cluster_key) for record in metrics["selected"]]
    return _named_alike(_table([cells for cells, _ in ordered]), names), metrics, found


_NOT_METRICS = frozenset(
    {"doc_id", "target", "input", "resps", "filtered_resps", "token_counts", "doc_hash", "input_media"}
)
_SAMPLE_FAULTS = {
    "damaged": "sample lines cannot be read",
    "lost": "questions are missing from the sample file",
    "duplicate": "questions stand twice in the sample file; the first counts",
    "unscorable": "questions that the task here does not have, or cannot score",
    "untraced": "questions have no trace; run again, only what is missing is computed",
    "mismatch": "questions have a trace whose answer scores otherwise than lmms-eval's results say: not of this run",
}
_SAMPLE_TYPES = (
    {"task": "str", "doc_id": "int64", "key": "str", "question": "str", "target": "str", "answer": "str"}
    | {"traced": "bool", "score_selected": "float64", "score_macro": "float64", "score_micro": "float64"}
    | {f"truth_{corner}": "float64" for corner in ("x1", "y1", "x2", "y2")}
)


def _table(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    types = _SAMPLE_TYPES | TRACE_TYPES
    names = [*_SAMPLE_TYPES, *TRACE_COLUMNS]
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pd.DataFrame(
        {name: pd.Series(column, dtype=types[name]) for name, column in zip(names, columns, strict=True)}
    )


def _samples(path: Path, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            try:
                sample = json.loads(line)
                int(sample["doc_id"])
            except (ValueError, TypeError, KeyError):
                counts["damaged"] += bool(line.strip())
                continue
            yield sample


def _matching(
    key: str,
    rows: _TraceRows,
    score: Callable[[str], Metrics] | None,
    selected: float,
    main: str | None,
    record: Mapping[str, Any] | None,
    counts: Counter[str],
) -> tuple[tuple[Any, ...] | None, tuple[Metrics | None, Metrics | None]]:
    """The row of the trace that agrees with lmms-eval's score, and the records of both its candidates."""
    if record is None:
        return None, (None, None)
    candidates = rows.candidates(key)
    for row in candidates:
        decided = _decided(row, record["settings"])
        if score is None:
            return decided, (None, None)
        try:
            macro, micro = _both_scored(row[_MACRO_TEXT], row[_MICRO_TEXT], score)
            found = micro if decided[_SELECTED] == "micro" else macro
            again = math.nan if found is None else score_of(found, main)
        except Exception:  # the task's own code and data, which may be others than the run's
            counts["unscorable"] += 1
            return None, (None, None)
        if again == selected or (math.isnan(again) and math.isnan(selected)):
            return decided, (macro, macro if micro is None else micro)
    counts["mismatch" if candidates else "untraced"] += 1
    return None, (None, None)


def _scored(
    document: Callable[[int], Mapping[str, Any]],
    score: Callable[[Mapping[str, Any], str], Metrics],
    doc_id: int,
    text: str,
) -> Metrics:
    return score(document(doc_id), text)


def _selected(row: tuple[Any, ...], candidates: tuple[Metrics | None, Metrics | None]) -> Metrics | None:
    return candidates[1] if row[_SELECTED] == "micro" else candidates[0]


def _both_scored(
    macro: str | None, micro: str | None, score: Callable[[str], Metrics]
) -> tuple[Metrics | None, Metrics | None]:
    """The records of both candidates; of a question that failed, those of an empty answer, as lmms-eval has it."""
    if micro is None:
        return score(macro or ""), None
    scored = score(micro)
    if macro is None:
        return None, scored
    return (scored if macro == micro else score(macro)), scored


_COLUMN = {name: place for place, name in enumerate(TRACE_COLUMNS)}
_MACRO_TEXT, _MICRO_TEXT, _SELECTED = _COLUMN["macro_text"], _COLUMN["micro_text"], _COLUMN["selected"]


def _decided(row: tuple[Any, ...], settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """``row`` as this run's rule decides: a trace that an earlier run left may have been decided by another."""
    if settings["strategy"] != "dualfocus" or row[_SELECTED] is None or row[_MICRO_TEXT] is None:
        return row
    pick = row[_COLUMN[pick_column(settings["selection"])]] or "macro"
    return (*row[:_SELECTED], pick, *row[_SELECTED + 1 :])


def _without_trace(cluster: str) -> tuple[Any, ...]:
    place = _COLUMN["cluster"]
    return (*NO_TRACE[:place], cluster, *NO_TRACE[place + 1 :])


def _image_name(metrics: Metrics | None, main: str | None, cluster_key: str | None) -> str | None:
    """The image as the task itself names it in its records; None where it does not."""
    record = metrics.get(main) if metrics and main else None
    name = record.get(cluster_key) if isinstance(record, Mapping) else None
    return None if name is None else str(name)


def _named_alike(answers: pd.DataFrame, names: Sequence[str | None]) -> pd.DataFrame:
    """``answers``, the images of untraced questions named by the digests that traced questions know them by."""
    traced = answers["traced"]
    if traced.all():
        return answers
    rows = list(zip(names, answers["cluster"], traced, strict=True))
    digests = {name: cluster for name, cluster, known in rows if known and name is not None}
    clusters = [cluster if known or name is None else digests.get(name, cluster) for name, cluster, known in rows]
    return answers.assign(cluster=pd.Series(clusters, dtype=answers["cluster"].dtype))


def _truth(doc: Mapping[str, Any], row: tuple[Any, ...]) -> tuple[float, ...]:
    """The document's ``box``, given in pixels, as fractions of the image."""
    width, height = row[_COLUMN["width"]], row[_COLUMN["height"]]
    box = doc.get("box")
    if box is None or len(box) != 4 or not width > 0:
        return (math.nan,) * 4
    return tuple(np.asarray(box, dtype=np.float64) / (width, height, width, height))


def _text(response: Any) -> str:
    return response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)


def _flag(results: Mapping[str, Any], name: str) -> Any:
    """One argument of the run; lmms-eval writes the whole command line into its results."""
    arguments = results["config"].get("resolved_cli_args")
    return arguments.get(name) if isinstance(arguments, dict) else None
