"""What the gate finds: answers that moved, scores that fell, and by which measure they were judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dualfocus_eval.analysis.paired_tests import PairedTest
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.gate.baseline import Answer

__all__ = ["Limits", "Mode", "Move", "TaskVerdict", "Verdict", "direction_of"]

Mode = Literal["exact", "near", "score", "drop"]
"""``exact``: no answer may get worse (float32, the baseline's own environment). ``near``: those may whose closest call
is a tie (float32 elsewhere). ``score``: any answer may (other precisions). In these the scores are tested. ``drop``:
any answer may, and a score may fall by so many points (``--max-drop``). In none may an answer or its score be lost."""

Direction = Literal["better", "worse", "as good", "not known", "lost"]
"""``lost``: a question that failed or has no score any more. ``not known``: a question that never had a score."""


@dataclass(frozen=True)
class Move:
    """A question whose answer or score is not the baseline's."""

    task: str
    before: Answer
    after: Answer
    allowed: bool

    @property
    def key(self) -> str:
        return f"{self.task}/{self.before.doc_id}"

    @property
    def direction(self) -> Direction:
        return direction_of(self.before, self.after)


@dataclass(frozen=True)
class Limits:
    """What the user sets, in points and percent of a task's mean score.

    Raises ``UserError`` for what is not a number from 0 to 100: with NaN every run would pass.
    """

    max_drop: float | None = None
    """Every task's score may fall by so many points; single answers and significance then decide nothing."""
    min_scores: Mapping[str, float] = field(default_factory=dict)
    """By task: below it the score is too low, whatever the baseline's is."""

    def __post_init__(self) -> None:
        limits = {"max_drop": self.max_drop or 0, **{f"min_scores, {task}": of for task, of in self.min_scores.items()}}
        for name, limit in limits.items():
            if not 0 <= limit <= 100:
                raise UserError(f"{name}: {limit} is not a number from 0 to 100")


@dataclass(frozen=True)
class TaskVerdict:
    """One task: its mean scores, what moved, and whether the score has got worse."""

    name: str
    keys: tuple[str, ...]
    before: float
    after: float
    moves: tuple[Move, ...]
    test: PairedTest
    p_worse: float
    """Adjusted for the number of tasks (Holm)."""
    shortfalls: tuple[str, ...] = ()
    """Why its score is too low."""

    @property
    def passed(self) -> bool:
        return not self.shortfalls and all(move.allowed for move in self.moves)


@dataclass(frozen=True)
class Verdict:
    """All that `judge` found."""

    mode: Mode
    differences: tuple[str, ...]
    """Of the environment, as far as it decides the mode."""
    settings: tuple[str, ...]
    """Settings that differ. They do not excuse anything."""
    tasks: tuple[TaskVerdict, ...]
    unjudged: tuple[str, ...]
    """Tasks of the run that the baseline does not have."""

    @property
    def passed(self) -> bool:
        return all(task.passed for task in self.tasks)

    @property
    def moves(self) -> tuple[Move, ...]:
        return tuple(move for task in self.tasks for move in task.moves)

    @property
    def questions(self) -> int:
        return sum(len(task.keys) for task in self.tasks)


def direction_of(before: Answer, after: Answer) -> Direction:
    """What became of an answer, by its score."""
    failed = after.text is None and before.text is not None
    if failed or (math.isnan(after.score) and not math.isnan(before.score)):
        return "lost"
    if math.isnan(before.score):
        return "not known"
    if after.score == before.score:
        return "as good"
    return "better" if after.score > before.score else "worse"
