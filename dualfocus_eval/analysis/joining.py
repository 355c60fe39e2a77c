"""A task's samples joined with the traces of its questions, both candidates scored by the task."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice
from dualfocus_eval.analysis.rows import OTHER_PICKS, TRACE_TYPES, no_trace, pick_column, pick_reader, rule_types
from dualfocus_eval.analysis.runs import Fault, Metrics
from dualfocus_eval.analysis.scoring import document_reader, main_metric, own_scoring, run_argument, score_of
from dualfocus_eval.common.numbers import LARGEST
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.traces.record import Decision

__all__ = ["TraceRows", "answers_table", "read_task"]


@dataclass
class TraceRows:
    """Rows of a run's traces: the best of each question, by key and then by question digest."""

    newest: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    fitted: SelectionRule | None = None
    """A calibrated choice that has columns beside the installed rules."""

    def candidates(self, key: str) -> list[tuple[Any, ...]]:
        """The rows of this key, the last read first; several where the question itself has changed meanwhile.

        They are handed out once, so that they need no memory twice.
        """
        return list(reversed(self.newest.pop(key, {}).values()))


def read_task(
    name: str,
    file: Path,
    task: Any,
    rows: TraceRows,
    results: Mapping[str, Any],
    record: Mapping[str, Any] | None,
) -> tuple[pd.DataFrame, dict[Choice, list[Metrics | None]], list[Fault]]:
    """One task's rows and records, in the order of its documents."""
    main, counts = main_metric(results, name), Counter[str]()
    cluster_key = results["configs"].get(name, {}).get("cluster_key")
    score = own_scoring(task, run_argument(results, "reasoning_tags")) if task is not None and record else None
    document = document_reader(task) if score else None
    decide = _decider(record["settings"], rows.fitted) if record else None
    read: dict[int, tuple[tuple[Any, ...], tuple[Metrics | None, ...]]] = {}
    for sample in _samples(file, counts):
        doc_id = int(sample["doc_id"])
        if doc_id in read:
            counts["duplicate"] += 1
            continue
        official = {key: value for key, value in sample.items() if key not in _NOT_METRICS}
        key, selected = f"{name}/{doc_id}", score_of(official, main)
        score_doc = partial(_scored, document, score, doc_id) if document and score else None
        row, candidates = _matching(key, rows, score_doc, selected, main, decide, counts)
        texts = (str(sample.get("input", "")), str(sample.get("target", "")), _text(sample.get("filtered_resps")))
        doc_hash = str(sample["doc_hash"]) if "doc_hash" in sample else None
        scores = [selected, *(math.nan if metrics is None else score_of(metrics, main) for metrics in candidates)]
        truth = _truth(document(doc_id), row) if document and row is not None else (math.nan,) * 4
        failed = _failure(sample, row)
        cells = row if row is not None else _without_trace(_image_name(official, main, cluster_key) or key, rows.fitted)
        read[doc_id] = (
            (name, doc_id, key, *texts, doc_hash, row is not None, failed, *scores, *truth, *cells),
            # Both candidates' records agree with lmms-eval's score; keeping its own too would double the memory.
            (*candidates, official if row is None or candidates == (None, None) else _selected(row, candidates)),
        )
    ordered = [read[doc_id] for doc_id in sorted(read)]
    expected = results["n-samples"].get(name, {}).get("effective", len(read))
    counts["lost"] = max(0, expected - len(read))
    found = [Fault(counts[kind], f"{what} (task {name})") for kind, what in _SAMPLE_FAULTS.items() if counts[kind]]
    choices: tuple[Choice, ...] = ("macro", "micro", "selected")
    metrics = {choice: [records[place] for _, records in ordered] for place, choice in enumerate(choices)}
    answers = answers_table([cells for cells, _ in ordered], rows.fitted)
    if not answers["traced"].all():
        answers = _named_alike(answers, [_image_name(record, main, cluster_key) for record in metrics["selected"]])
    return answers, metrics, found


_NOT_METRICS = frozenset(
    {"doc_id", "target", "input", "resps", "filtered_resps", "token_counts", "doc_hash", "input_media", "dualfocus"}
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
    | {
        "doc_hash": "str",
        "traced": "bool",
        "failed": "str",
        "score_selected": "float64",
        "score_macro": "float64",
        "score_micro": "float64",
    }
    | {f"truth_{corner}": "float64" for corner in ("x1", "y1", "x2", "y2")}
)


def answers_table(rows: Sequence[tuple[Any, ...]], fitted: SelectionRule | None = None) -> pd.DataFrame:
    """A column for each value of the rows, and one for what each rule picked that is not installed here."""
    types = {**_SAMPLE_TYPES, **TRACE_TYPES, **rule_types(fitted)}
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    cells = dict(zip(types, columns, strict=True))
    others = cells.pop(OTHER_PICKS)
    table = {name: _series(column, types[name]) for name, column in cells.items()}
    for rule in dict.fromkeys(rule for picks in others for rule in picks or ()):
        table[pick_column(rule)] = _series([(picks or {}).get(rule) for picks in others], "str")
    return pd.DataFrame(table)


def _series(column: Sequence[Any], dtype: Any) -> pd.Series:
    try:
        return pd.Series(column, dtype=dtype)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and no file
        cleaned = [cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell for cell in column]
        return pd.Series(cleaned, dtype=dtype)


def _samples(path: Path, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            try:
                sample = json.loads(line)
                if abs(int(sample["doc_id"])) > LARGEST:
                    raise ValueError("no place of a document")
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                counts["damaged"] += bool(line.strip())
                continue
            yield sample


def _matching(
    key: str,
    rows: TraceRows,
    score: Callable[[str], Metrics] | None,
    selected: float,
    main: str | None,
    decide: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None,
    counts: Counter[str],
) -> tuple[tuple[Any, ...] | None, tuple[Metrics | None, Metrics | None]]:
    """The row of the trace that agrees with lmms-eval's score, and the records of both its candidates."""
    if decide is None:
        return None, (None, None)
    candidates = rows.candidates(key)
    for row in candidates:
        decided = decide(row)
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


_COLUMN = {name: place for place, name in enumerate(TRACE_TYPES)}
_MACRO_TEXT, _MICRO_TEXT = _COLUMN["macro_text"], _COLUMN["micro_text"]
_SELECTED, _DECISION, _ERROR = _COLUMN["selected"], _COLUMN["decision"], _COLUMN["error"]


def _decider(settings: Mapping[str, Any], fitted: SelectionRule | None) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """From a row to that row as this run's rule decides it: the trace may be of an earlier run under another rule."""
    if settings["strategy"] != "dualfocus":
        return lambda row: row
    return partial(_decided, pick_reader(settings["selection"], fitted))


def _decided(pick_in: Callable[[tuple[Any, ...]], str | None], row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[_SELECTED] is None or row[_MICRO_TEXT] is None:
        return row
    pick, decision = pick_in(row), row[_DECISION]
    if pick is None:
        pick, decision = "macro", str(Decision.NO_SCORES)
    elif decision == Decision.NO_SCORES:
        decision = str(Decision.NLL)
    cells = list(row)
    cells[_SELECTED], cells[_DECISION] = pick, decision
    return tuple(cells)


def _failure(sample: Mapping[str, Any], row: tuple[Any, ...] | None) -> str | None:
    """Why the question failed, by the run's own note in its sample, or else by its trace; None where it did not."""
    if isinstance(noted := sample.get("dualfocus"), dict) and "failure" in noted:
        failure = noted["failure"]
        return str(failure.get("kind")) if isinstance(failure, dict) else None
    kind: str | None = row[_ERROR] if row is not None else None
    return kind


def _without_trace(cluster: str, fitted: SelectionRule | None) -> tuple[Any, ...]:
    row, place = no_trace(fitted), _COLUMN["cluster"]
    return (*row[:place], cluster, *row[place + 1 :])


def _image_name(metrics: Metrics | None, main: str | None, cluster_key: str | None) -> str | None:
    """The image as the task itself names it in its records; None where it does not."""
    record = metrics.get(main) if metrics and main else None
    name = record.get(cluster_key) if isinstance(record, Mapping) else None
    return None if name is None else str(name)


def _named_alike(answers: pd.DataFrame, names: Sequence[str | None]) -> pd.DataFrame:
    """``answers``, the images of untraced questions named by the digests that traced questions know them by."""
    rows = list(zip(names, answers["cluster"], answers["traced"], strict=True))
    digests = {name: cluster for name, cluster, known in rows if known and name is not None}
    clusters = [cluster if known or name is None else digests.get(name, cluster) for name, cluster, known in rows]
    return answers.assign(cluster=pd.Series(clusters, dtype=answers["cluster"].dtype))


def _truth(doc: Mapping[str, Any], row: tuple[Any, ...]) -> tuple[float, ...]:
    """The document's ``box``, given in pixels, as fractions of the image."""
    width, height = row[_COLUMN["width"]], row[_COLUMN["height"]]
    box = doc.get("box")
    if box is None or len(box) != 4 or not (width > 0 and height > 0):
        return (math.nan,) * 4
    return tuple(np.asarray(box, dtype=np.float64) / (width, height, width, height))


def _text(response: Any) -> str:
    return response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
