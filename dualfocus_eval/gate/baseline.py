"""A run reduced to what a later run is judged by: per question its digest, answer, score and closest call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dualfocus_eval.analysis.rows import cost_columns
from dualfocus_eval.analysis.runs import Run, engine_words
from dualfocus_eval.analysis.scoring import predicted_only
from dualfocus_eval.common.errors import UserError

__all__ = ["Answer", "Baseline", "Provenance", "baseline_of", "reduce_run"]

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
    """`engines.environment.environment_of`, or what a server says of itself, and the batch size."""
    made: str
    """When, as lmms-eval writes it into its results."""
    resumed: int = 0
    """Answers that the run took from the traces of an earlier one, whose batch size and threads are not known."""

    @property
    def engine(self) -> str:
        """What ran the model, in a few words."""
        return engine_words(self.environment)

    @property
    def served(self) -> bool:
        """Whether a server ran it, so that its files and its precision are not known."""
        return "server" in self.environment


@dataclass(frozen=True)
class Baseline:
    """A reduced run: by task, its answers in the order of the documents."""

    provenance: Provenance
    tasks: Mapping[str, tuple[Answer, ...]]

    @property
    def questions(self) -> int:
        return sum(map(len, self.tasks.values()))


def reduce_run(run: Run, *, resumed: bool = False) -> Baseline:
    """What a baseline keeps of ``run``; with ``resumed`` answers of an earlier run count, too.

    All answers are of the run's own settings key: a question with a trace of another is one without. Raises
    ``UserError`` where the run cannot stand for what the code does now: without traces, with lines lost, or, without
    ``resumed``, with answers that an earlier run had computed.
    """
    record = run.record
    if record is None or not {"environment", "summary", "checkpoint", "batch_size"} <= record.keys():
        raise UserError(
            f"{run.path} was not written by --model dualfocus of this version: it does not say what ran it; run again"
        )
    if not run.results["n-samples"]:
        raise UserError(f"{run.path} does not say how many questions were asked (`n-samples`); run again")
    if predicted_only(run.results):
        raise UserError(f"{run.path}: the run was made with --predict_only: it has no scores; run again without it")
    if not _is_whole(run):
        faults = "; ".join(str(fault) for fault in run.faults if not fault.harmless)
        raise UserError(f"{run.path}: the run is incomplete: {faults}")
    found = int(record["summary"].get("resumed", 0))
    if found and not resumed:
        raise UserError(
            f"{run.path}: {found:,} answers were not computed by this run but found in its traces "
            f"({record['traces']}), so they do not show what the code does now; run again with an empty --output_path"
        )
    provenance = Provenance(
        record["checkpoint"],
        record["settings_key"],
        record["settings"],
        {**record["environment"], "batch_size": record["batch_size"]},
        str(run.results.get("date", "")),
        found,
    )
    tasks = {name: _answers(run.of(name), record["settings"]) for name in run.task_names}
    return Baseline(provenance, tasks)


def baseline_of(run: Run) -> Baseline:
    """The baseline that ``run`` makes; answers that it took from an earlier one count.

    Raises ``UserError`` for a run that is not whole, as `reduce_run` does, or that failed on a question.
    """
    baseline = reduce_run(run, resumed=True)
    failed = sum(answer.text is None for answers in baseline.tasks.values() for answer in answers)
    if failed:
        raise UserError(f"{failed:,} questions of {run.path} failed; a baseline is made from a run without failures")
    return baseline


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
    macro, micro = cost_columns(settings["selection"])
    by_rule = rows["decision"] == "nll"
    known = rows["gap"].notna()
    if macro in rows:
        calls["selection"] = (rows[macro] - rows[micro]).abs().where(by_rule)
    else:  # the rule is not installed here: how close its choices were is not known
        known &= ~by_rule
    if settings["adaptive_nll"] is not None:
        calls["adaptive"] = (rows["macro_nll"] - settings["adaptive_nll"]).abs()
    # Of an unknown token nothing can be said, however far apart the candidates are.
    return calls.min(axis=1).where(known)
