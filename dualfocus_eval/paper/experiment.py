"""What a table or figure of the paper is made of: named runs, and a function from the finished runs to sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.published import BENCHMARKS

__all__ = ["Experiment", "Preparation", "Request", "RunSpec", "Runs", "in_order", "of_columns"]

Runs = Mapping[str, Run]
"""Finished runs by their names in the experiment; one whose checkpoint has yet to be trained is missing."""


@dataclass(frozen=True)
class Request:
    """What the user asked for: the same for all runs of an experiment."""

    out: Path
    model_args: str = ""
    """Of the model under test; empty for the embedded checkpoint."""
    recipe: str = ""
    """The recipe among them."""
    other_model_args: str = ""
    """Of the second model, for the experiments that compare two."""
    detector: str = ""
    """Folder or hub id of an object detector."""
    tasks: str = ""
    """In place of the experiment's embedded sets."""
    limit: int | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class RunSpec:
    """One run, without what is the same for all."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Model arguments that make it this run; a user's must not contradict them."""
    flags: tuple[str, ...] = ()
    """Further arguments of the command line."""
    other_model: bool = False
    """Of the second model."""
    recipe: str = ""
    """In place of the user's recipe."""
    own_traces: bool = False
    """Nothing is reused from other runs, since its time counts."""
    trained: bool = True
    """Whether its checkpoint is there."""


@dataclass(frozen=True)
class Preparation:
    """What the user has to start before the runs can be made, because of what it costs."""

    command: str
    cost: str
    done: bool


def _nothing(request: Request) -> Sequence[Preparation]:
    return ()


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    name: str
    """``table1`` to ``table11``, ``figure3`` to ``figure5``."""
    title: str
    tasks: tuple[str, ...]
    """The embedded sets that stand for the paper's benchmarks."""
    runs: Callable[[Request], Sequence[RunSpec]]
    """Raises ``UserError`` where something that the runs need was not named."""
    sections: Callable[[Runs], Sequence[Section]]
    preparations: Callable[[Request], Sequence[Preparation]] = _nothing


def in_order(tasks: Iterable[str]) -> list[str]:
    """The tasks in the order of the paper's columns, others after them."""
    known = [task for column in BENCHMARKS.values() for task in column]
    return sorted(dict.fromkeys(tasks), key=lambda task: known.index(task) if task in known else len(known))


def of_columns(run: Run, *columns: str) -> Run:
    """The run's questions of the tasks behind these columns of `BENCHMARKS`; the whole run if it has none of them."""
    wanted = {task for column in columns for task in BENCHMARKS[column]}
    kept = in_order(task for task in run.task_names if task in wanted)
    if not kept:
        return run
    return replace(run, answers=pd.concat(map(run.of, kept), ignore_index=True), computed={})
