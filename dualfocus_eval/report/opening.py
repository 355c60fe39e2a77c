"""What a run's page opens with: a sentence on what ran, and a line for each task on what the second look brought.

Every number is one of the tables below it: scores of "Strategies", differences of "Gain over macro alone", cost of
"Cost against one pass".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from dualfocus_eval.analysis.choices import heading
from dualfocus_eval.analysis.measures import is_share, metric, scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Number
from dualfocus_eval.report.sections.cost import GENERATED, IMAGES, overhead, times
from dualfocus_eval.report.sections.selection import gain

__all__ = ["Bar", "Opening", "TaskResult", "counted", "model_name", "opening_of"]

_NAMED = 6
"""Tasks that the sentence names."""
_COSTS = {IMAGES: "images", GENERATED: "generated tokens"}
"""What the sentence tells of `cost.overhead`; time is an estimate, which the table says."""


@dataclass(frozen=True)
class Bar:
    """A task's bar, in per cent of its length."""

    start: float
    """Where the coloured part begins: the lower one of both scores."""
    length: float
    gained: bool
    mark: float
    """The macro score."""
    low: float
    """The interval of the difference, from the macro score on; NaN without one."""
    high: float


@dataclass(frozen=True)
class TaskResult:
    """One task's line. Without macro answers there is only the score."""

    task: str
    metric: str
    failed: str
    """How many of how many questions failed; empty where none did."""
    n: int
    """Questions: those that are compared, or else those that count in the score."""
    score: Number
    macro: Number | None = None
    difference: Number | None = None
    share: bool = True
    """Whether the scores are shares, in per cent; only these have a bar."""

    @property
    def bar(self) -> Bar | None:
        """The bar, from 0 to 100; None for other scores."""
        if not self.share or math.isnan(self.score.value):
            return None
        macro = self.score if self.macro is None or math.isnan(self.macro.value) else self.macro
        start, end = sorted((_clip(macro.value), _clip(self.score.value)))
        found = self.difference or Number(math.nan)
        low, high = (_clip(macro.value + end) for end in (found.low, found.high))
        return Bar(start, end - start, self.score.value >= macro.value, _clip(macro.value), low, high)

    @property
    def verdict(self) -> str:
        """``good`` or ``bad`` where the interval of the difference leaves out zero; else empty."""
        if self.difference is None or math.isnan(self.difference.low):
            return ""
        return "good" if self.difference.low > 0 else "bad" if self.difference.high < 0 else ""

    @property
    def line(self) -> str:
        """The line as text."""
        name = f"{self.task} ({self.failed} FAILED)" if self.failed else self.task
        if self.macro is None or self.difference is None:
            return f"{name}, {self.metric}: {self.score}; n {self.n:,}"
        macro, score = (replace(number, low=math.nan, high=math.nan) for number in (self.macro, self.score))
        points = " points" if self.difference.unit == "points" else ""
        return f"{name}, {self.metric}: macro {macro}, selected {score}, {self.difference}{points}; n {self.n:,}"


@dataclass(frozen=True)
class Opening:
    """The first screen."""

    sentence: str
    results: tuple[TaskResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether any task has both scores."""
        return any(result.difference is not None for result in self.results)


def opening_of(run: Run) -> Opening:
    """The opening of a run's page, whatever the run has: of another model's run the scores alone."""
    results = tuple(_result(run, name, main) for name in run.task_names if (main := run.main_metric(name)))
    return Opening(_sentence(run), results, _notes(run, results))


def model_name(run: Run) -> str:
    """The last part of the checkpoint's name, or of the name that a server or lmms-eval has for the model."""
    return Path(run.model or "another model").name


def _result(run: Run, task: str, main: str) -> TaskResult:
    choices = run.shown_choices_of(task)
    selected = next(choice for choice in reversed(run.selecting) if choice in choices)
    n, score = metric(run, task, main, selected)
    failed = str(run.failures.get(task, ""))
    share = is_share(run, task, main) if task in run.tasks else score.unit == "%"
    pairs, difference = gain(run, task, selected) if "macro" in choices else (0, Number(math.nan))
    if not pairs:
        return TaskResult(task, main, failed, n, score, share=share)
    return TaskResult(task, main, failed, pairs, score, metric(run, task, main, "macro")[1], difference, share)


def _sentence(run: Run) -> str:
    """Model, questions, tasks, how the answers were chosen, cost."""
    names = run.task_names
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    asked, images = counted(len(run.answers), "question"), counted(run.answers["cluster"].nunique(), "image")
    what = f"{model_name(run)} answered {asked} about {images}" if names else f"{model_name(run)} left no answers here"
    tasks = f" in {counted(len(names), 'task')} ({listed})" if names else ""
    return f"{what}{tasks}{_method(run)}."


def _method(run: Run) -> str:
    if not run.record:
        return ""
    strategy, threshold = run.settings["strategy"], run.settings["adaptive_nll"]
    if strategy != "dualfocus":
        return f", with the {strategy} pathway alone"
    rule = heading(run.settings["selection"])
    where = f" where the macro answer's NLL was above {threshold:g}" if threshold is not None else ""
    return f", in two passes{where}{_cost(run)}; the rule {rule} selected the answers"


def _cost(run: Run) -> str:
    costs = overhead(run)
    words = [f"{times(*costs[kind])} times the {name}" for kind, name in _COSTS.items() if kind in costs]
    return f", at {' and '.join(words)} of one pass" if words else ""


def _notes(run: Run, results: tuple[TaskResult, ...]) -> tuple[str, ...]:
    notes = []
    if limit := (run.results.get("config") or {}).get("limit"):
        shown = f"{limit:g}" if isinstance(limit, int | float) else str(limit)
        notes.append(f"Only the first questions of each task were asked (--limit {shown}).")
    if any(result.difference is not None for result in results):
        notes.append(
            "Differences are in points, paired question by question, with 95% intervals clustered by image; n counts "
            "the pairs. MMBench is compared by row, not by circular question, and POPE by accuracy."
        )
    if any(result.share for result in results):
        notes.append("Scores are by the task's own metric, in percent.")
    return (*notes, *scale_notes([result.task for result in results if not result.share]))


def counted(count: int, what: str) -> str:
    """``1 question``, ``2 questions``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _clip(value: float) -> float:
    return value if math.isnan(value) else min(100.0, max(0.0, value))
