"""A run reduced to what a later run is judged by: per question its digest, answer, score and closest call."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dualfocus_eval.errors import UserError
from dualfocus_eval.method.decoding import decoder
from dualfocus_eval.report.runs import Run

__all__ = ["Answer", "Baseline", "Provenance", "load_baseline", "reduce_run", "save_baseline"]

FORMAT = 1
_DIGITS = 12
"""Of a question's digest, in hexadecimal: enough to tell a changed question."""


@dataclass(frozen=True)
class Answer:
    """What a run made of one question."""

    doc_id: int
    question: str
    """The beginning of the question's digest, which covers text, images and generation limits."""
    text: str | None
    """None where the question failed."""
    score: float
    """From 0 to 1; NaN where the task gives none."""
    gap: float
    """How close the closest decision on the way to the answer was, in nats; NaN where the trace does not say."""
    cluster: str = ""
    """The image. It is known of a run, and not kept in a baseline."""


@dataclass(frozen=True)
class Provenance:
    """Where the answers come from."""

    checkpoint: str
    """Name, and digest of every file and image option that can change an answer (`engines.identity`)."""
    settings_key: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    """`harness.environment.environment_of`, and the batch size."""
    made: str
    """When, as lmms-eval writes it into its results."""


@dataclass(frozen=True)
class Baseline:
    """A reduced run: by task, its answers in the order of the documents."""

    provenance: Provenance
    tasks: Mapping[str, tuple[Answer, ...]]

    @property
    def questions(self) -> int:
        return sum(map(len, self.tasks.values()))


def reduce_run(run: Run) -> Baseline:
    """What a baseline keeps of ``run``.

    Raises ``UserError`` where the run cannot stand for what the code does now: without traces, with lines lost, or
    with answers that an earlier run had computed.
    """
    record = run.record
    if record is None or "environment" not in record:
        raise UserError(
            f"{run.path} was not written by --model dualfocus of this version: it does not say what ran it; run again"
        )
    if not run.results["n-samples"]:
        raise UserError(f"{run.path} does not say how many questions were asked (`n-samples`); run again")
    if not _is_whole(run):
        faults = "; ".join(str(fault) for fault in run.faults if not fault.harmless)
        raise UserError(f"{run.path}: the run is not whole: {faults}")
    if resumed := record["summary"]["resumed"]:
        raise UserError(
            f"{run.path}: {resumed:,} answers were not computed by this run but found in its traces "
            f"({record['traces']}); run again with an empty --output_path"
        )
    provenance = Provenance(
        record["checkpoint"],
        record["settings_key"],
        record["settings"],
        {**record["environment"], "batch_size": record["batch_size"]},
        str(run.results.get("date", "")),
    )
    tasks = {name: _answers(run.of(name), record["settings"]) for name in run.task_names}
    return Baseline(provenance, tasks)


def _is_whole(run: Run) -> bool:
    """Whether every question that was asked has its sample and its trace. That a task cannot be scored again, as one
    of the user's own folder, takes nothing away here."""
    asked = sum(counts["effective"] for counts in run.results["n-samples"].values())
    return len(run.answers) >= max(asked, 1) and bool(run.answers["traced"].all())


def _answers(rows: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[Answer, ...]:
    gaps = _closest_calls(rows, settings)
    failed = rows["error"].notna()
    columns = ("doc_id", "question_digest", "answer", "score_selected", "cluster")
    return tuple(
        Answer(int(doc_id), digest[:_DIGITS], None if error else text, float(score), float(gap), cluster)
        for (doc_id, digest, text, score, cluster), error, gap in zip(
            rows[list(columns)].itertuples(index=False), failed, gaps, strict=True
        )
    )


def _closest_calls(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.Series:
    """The smallest of: the gaps of all generated tokens; between the candidates where likelihood chose; and to the
    threshold below which the micro pathway is skipped."""
    calls = pd.DataFrame({"tokens": rows["gap"]})
    context = {"own": "", "micro": "_context", "released": "_released"}[settings["selection"]]
    margin = (rows[f"macro{context}_nll"] - rows[f"micro{context}_nll"]).abs()
    calls["selection"] = margin.where(rows["decision"] == "nll")
    if settings["adaptive_nll"] is not None:
        calls["adaptive"] = (rows["macro_nll"] - settings["adaptive_nll"]).abs()
    # Of an unknown token nothing can be said, however far apart the candidates are.
    return calls.min(axis=1).where(rows["gap"].notna())


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write it as JSON, a line per question, so that a change of it can be read in a diff.

    Raises ``UserError`` where the file cannot be written.
    """
    head = json.dumps({"format": FORMAT, **asdict(baseline.provenance)}, indent=1, ensure_ascii=False)
    tasks = ",\n".join(
        f"  {json.dumps(name)}: [\n   " + ",\n   ".join(_line(answer) for answer in answers) + "\n  ]"
        for name, answers in baseline.tasks.items()
    )
    columns = json.dumps(["doc_id", "question", "score", "gap", "text"])
    text = head.removesuffix("\n}") + f',\n "columns": {columns},\n "tasks": {{\n{tasks}\n }}\n}}\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"baseline {path} cannot be written: {error}") from error


def _line(answer: Answer) -> str:
    numbers = (None if math.isnan(value) else value for value in (answer.score, _rounded(answer.gap)))
    return json.dumps([answer.doc_id, answer.question, *numbers, answer.text], ensure_ascii=False)


def _rounded(gap: float) -> float:
    return gap if math.isnan(gap) else float(f"{gap:.2g}")


def load_baseline(path: Path) -> Baseline:
    """Read what `save_baseline` wrote. Raises ``UserError`` for what is none, naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no baseline {path}; make it from a good run with --update") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"baseline {path} cannot be read: {error}") from error
    try:
        if content["format"] != FORMAT:
            raise UserError(f"baseline {path} has format {content['format']!r}, this is {FORMAT}; renew it (--update)")
        provenance = _provenance({name: content[name] for name in Provenance.__dataclass_fields__})
        if not isinstance(provenance.environment.get("packages", {}), dict):
            raise TypeError("environment: packages are not an object")
        tasks = {name: _answers_in(name, rows) for name, rows in content["tasks"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is no baseline: {type(error).__name__}: {error}; make one with --update") from error
    if not any(tasks.values()):
        raise UserError(f"baseline {path} has no questions; make one from a good run with --update")
    return Baseline(provenance, tasks)


@dataclass(frozen=True)
class _Row:
    """A question's line, in the order of its columns."""

    doc_id: int
    question: str
    score: float | None
    gap: float | None
    text: str | None


_provenance, _row = decoder(Provenance), decoder(_Row)


def _answers_in(task: str, rows: Sequence[Sequence[Any]]) -> tuple[Answer, ...]:
    answers: dict[int, Answer] = {}
    for number, values in enumerate(rows, 1):
        try:
            row = _row(dict(zip(_Row.__dataclass_fields__, values, strict=True)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"task {task}, row {number}: {error}") from None
        if row.doc_id in answers:
            raise ValueError(f"task {task}, row {number}: question {row.doc_id} stands there twice")
        answers[row.doc_id] = Answer(row.doc_id, row.question, row.text, _known(row.score), _known(row.gap))
    return tuple(answers.values())


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)
