"""A finished run as the reports see it: one row per question, and the scored records of both candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dualfocus_eval.analysis.choices import Choice, available_choices, heading, picked_micro, rule_choice, rules_among
from dualfocus_eval.analysis.scoring import main_metric
from dualfocus_eval.common.tables import print_line
from dualfocus_eval.method.selection.calibration import Calibration

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Fault", "Metrics", "Run", "engine_words", "print_faults"]

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
class Failures:
    """The failed questions of a task."""

    asked: int
    """All of the task's questions."""
    kinds: Counter[str]
    """How many failed for which reason (`engines.base.Failure.kind`)."""

    def __str__(self) -> str:
        return f"{self.kinds.total():,} of {self.asked:,}"


@dataclass(frozen=True)
class Run:
    """One run. ``answers`` has a row per question, tasks in the order of the run, documents in theirs.

    Columns: ``task``, ``doc_id``, ``key``, ``question`` (the prompt), ``target``, ``answer`` (the text that lmms-eval
    scored), ``doc_hash`` (of the document), ``traced``; ``failed`` (the kind of failure, NaN of an answered
    question); ``score_selected`` (lmms-eval's own), ``score_macro``, ``score_micro`` (1 is right; micro falls back to
    macro; NaN without a trace); ``truth_x1`` to ``truth_y2`` (the document's ``box``, as fractions of the image); and
    `rows.TRACE_TYPES` and `rows.rule_types`. ``cluster`` tells which questions share an image.
    """

    path: Path
    """lmms-eval's results file."""
    results: Mapping[str, Any]
    """What is in it."""
    record: Mapping[str, Any] | None
    """What the model left in the results (`harness.session.Session.record`); None for a run of another model."""
    answers: pd.DataFrame
    tasks: Mapping[str, Any] = field(default_factory=dict)
    """lmms-eval's task objects by name, those that could be loaded."""
    metrics: Mapping[str, Mapping[Choice, Sequence[Metrics | None]]] = field(default_factory=dict)
    """By task: the scored records of ``macro``, ``micro`` and ``selected``, in the order of the task's rows."""
    faults: tuple[Fault, ...] = ()
    trace_folder: Path | None = None
    """Where the traces are, and the pictures (`traces.pictures.picture_file`); None where there are no traces."""
    calibration: Calibration | None = None
    """The calibrated choice that decided, or that is shown beside the rules."""
    computed: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Numbers that several tables and figures need, kept by who computed them."""

    @property
    def name(self) -> str:
        """The folder's name, for headings."""
        return self.path.parent.name

    @property
    def model(self) -> str:
        """Its checkpoint, or the name under which a server or lmms-eval has it; empty where nothing says."""
        if self.record is None:
            return str(self.results.get("model_name") or "")
        engine = self.record["engine"]
        return str(engine.get("pretrained") or engine.get("model") or "")

    @property
    def seconds(self) -> float:
        """Wall time of the evaluation, model loading included; NaN where the results do not say."""
        try:
            return float(self.results.get("total_evaluation_time_seconds") or math.nan)
        except (TypeError, ValueError):
            return math.nan

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved settings of the method; empty for a run of another model."""
        return self.record["settings"] if self.record else {}

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of the answer that this run allows; without any trace only its own."""
        if not (self.record and self._traced.any()):
            return ("selected",)
        return available_choices(self.settings, self.answers)

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the selection rules that this run can be judged by."""
        return rules_among(self.choices)

    @property
    def shown_choices(self) -> dict[Choice, str]:
        """The choices worth a column, with their headings; a star marks the rule that decided.

        ``selected`` has a column of its own where it says more than that rule: with some questions untraced it is
        lmms-eval's own score over all of them.
        """
        headings = {choice: heading(choice) for choice in self.choices}
        if "oracle" in headings:
            deciding = rule_choice(self.settings["selection"])
            headings[deciding] += " *"
            if self._traced.all():
                del headings["selected"]
        return headings

    @property
    def selecting(self) -> tuple[Choice, ...]:
        """The choices that are what this run selected."""
        return ("selected", rule_choice(self.settings["selection"])) if "oracle" in self.choices else ("selected",)

    def shown_choices_of(self, task: str) -> dict[Choice, str]:
        """`shown_choices`; of a task without any trace only what the run selected."""
        return self.shown_choices if self.of(task)["traced"].any() else {"selected": "selected"}

    @property
    def lost(self) -> int:
        """Questions that were asked, by the results, and whose samples are not there."""
        asked = {name: int(counts["effective"]) for name, counts in self.results["n-samples"].items()}
        return sum(max(0, count - len(self.of(name))) for name, count in asked.items())

    @cached_property
    def failures(self) -> Mapping[str, Failures]:
        """By task, for those with failed questions: what the run noted, or else what its samples and traces say."""
        noted = (self.record or {}).get("tasks", {})
        found = {}
        for task in dict.fromkeys([*self.results["n-samples"], *self.task_names, *noted]):
            rows = self.of(task)
            counts = noted.get(task) or {"questions": len(rows), "failures": Counter(rows["failed"].dropna())}
            kinds = +Counter(counts["failures"])
            if kinds:
                found[task] = Failures(counts["questions"], kinds)
        return found

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

    def columns(self, task: str, choice: Choice) -> Mapping[str, tuple[list[int], list[Any]]]:
        """`records` by metric: the places, among the task's rows, of the questions that count, and their records."""
        key = ("columns", task, choice)
        if key not in self.computed:
            columns: dict[str, tuple[list[int], list[Any]]] = {}
            for place, metrics in enumerate(self.records(task, choice) if task in self.metrics else ()):
                for name, record in (metrics or {}).items():
                    places, records = columns.setdefault(name, ([], []))
                    places.append(place)
                    records.append(record)
            self.computed[key] = columns
        found: Mapping[str, tuple[list[int], list[Any]]] = self.computed[key]
        return found


def engine_words(environment: Mapping[str, Any]) -> str:
    """What ran the model, in a few words, by a run's record of its environment."""
    if server := environment.get("server"):
        return f"server ({server})"
    return f"in process ({environment.get('dtype', 'unknown dtype')} on {environment.get('device', 'unknown device')})"


def print_faults(run: Run, console: Console) -> None:
    """A line for everything of the run that could not be used or that the reader should know, warnings in yellow."""
    for fault in run.faults:
        kind, style = ("note", "") if fault.harmless else ("warning", "yellow")
        print_line(f"   {kind}: {fault}", console, style)
