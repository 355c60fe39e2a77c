"""A running run as its page shows it: how far it is, its scores so far, its failures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.common.escaping import json_number
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import COMPLETE, completeness
from dualfocus_eval.viewing.notes import RunNotes
from dualfocus_eval.viewing.scoring import PATHWAYS, Candidates, TaskScores, candidates_of, load_scores
from dualfocus_eval.viewing.tail import TraceTail

__all__ = ["LiveRun"]

_SCORED_AT_ONCE = 2_000
"""Answers, between two looks at the traces: the page goes on while many are scored."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the page needs of the best trace of a question."""

    completeness: int
    new: bool
    failure: str | None
    fallback: str | None
    message: str


class LiveRun:
    """One run, from its notes on; `refresh` reads what is new, `snapshot` says what is known."""

    def __init__(self, notes: RunNotes, place: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.notes = notes
        self._place, self._clock = place, clock
        self._tail = TraceTail(notes.folder)
        self._answers: dict[tuple[str, int], _Answer] = {}
        self._pending: dict[tuple[str, int], Candidates] = {}
        self._skipped = False
        self._scores: dict[str, TaskScores] | None = None
        self._unscored: dict[str, str] = {}

    def refresh(self) -> None:
        """Read the new traces."""
        for path, offset, trace in self._tail.read():
            place = self.notes.place_of(trace)
            if place is not None:
                self._take(place, trace, self.notes.is_new(path, offset))

    def _take(self, place: tuple[str, int], trace: Trace, new: bool) -> None:
        rank = completeness(trace)
        known = self._answers.get(place)
        if (not new and rank < COMPLETE) or (known and rank < known.completeness):
            return  # what an earlier run failed on is asked again
        problem = trace.error or trace.cause
        self._answers[place] = _Answer(
            rank,
            new,
            trace.error.kind if trace.error else None,
            str(trace.fallback) if trace.fallback else None,
            problem.message if problem else "",
        )
        self._pending[place] = candidates_of(trace, self.notes.first.selection)
        self._skipped |= trace.skipped_micro

    def score(self) -> bool:
        """Score some of the answers that are not scored yet; whether there are more. The first call takes seconds."""
        if not self._pending:
            return False
        if self._scores is None:
            self._scores, self._unscored = load_scores(list(self.notes.asked), self.notes.arguments, self._place)
        chosen = sorted(self._pending)[:_SCORED_AT_ONCE]
        for task, scores in self._scores.items():
            scores.add((doc_id, self._pending[name, doc_id]) for name, doc_id in chosen if name == task)
        for place in chosen:
            del self._pending[place]
        return bool(self._pending)

    @property
    def complete(self) -> bool:
        """Whether every question is answered."""
        return not self.notes.missing and len(self._answers) >= self._asked

    @property
    def _asked(self) -> int:
        return sum(map(len, self.notes.asked.values()))

    def snapshot(self) -> dict[str, Any]:
        """Plain values for JSON; times in seconds, scores as the tasks give them."""
        now, written = self._clock(), self._tail.written
        answered, fresh = len(self._answers), sum(answer.new for answer in self._answers.values())
        last = max(written or 0.0, self.notes.started) if fresh else self.notes.started
        spent = last - self.notes.started
        rate = fresh / spent if fresh and spent > 0 else None
        remaining = max(0, self._asked - answered)
        return {
            "model": Path(self.notes.first.model).name,  # as `report.opening.model_name` has it
            "strategy": self.notes.first.strategy,
            "selection": self.notes.first.selection,
            "asked": self._asked,
            "answered": answered,
            "answered_earlier": answered - fresh,
            "elapsed": json_number(max(0.0, now - self.notes.started)),
            "rate": json_number(rate),
            "left": json_number(remaining / rate) if rate and remaining else None,
            "idle": json_number(max(0.0, now - last)),
            "tasks": self._tasks(),
            "failures": _by_kind(self._answers, lambda answer: answer.failure),
            "fallbacks": _by_kind(self._answers, lambda answer: answer.fallback),
            "remarks": self._remarks(),
        }

    @property
    def _pathways(self) -> tuple[str, ...]:
        """Those that answer every question, as in the run's report: others' scores would be of other questions."""
        if self.notes.first.strategy != "dualfocus":
            return ("selected",)
        return ("macro", "selected") if self._skipped else PATHWAYS

    def _tasks(self) -> list[dict[str, Any]]:
        answered = Counter(task for task, _ in self._answers)
        failed = Counter(task for (task, _), answer in self._answers.items() if answer.failure)
        return [
            {"name": name, "asked": len(documents), "answered": answered[name], "failed": failed[name]}
            | _scores((self._scores or {}).get(name), self._pathways)
            for name, documents in self.notes.asked.items()
        ]

    def _remarks(self) -> list[str]:
        found = [f"{name} cannot be read: {why}" for name, why in self._tail.unreadable.items()]
        if self._tail.damaged:
            found.append(f"{self._tail.damaged:,} lines of the trace files are no traces of this version")
        if self.notes.missing:
            found.append(f"{self.notes.missing} of {self.notes.first.processes} processes have not begun to ask yet")
        found += [f"{task} cannot be scored here: {why}" for task, why in self._unscored.items()]
        for task, scores in (self._scores or {}).items():
            found += [
                f"{count:,} answers of {task} cannot be scored here: {why}" for why, count in scores.unscorable.items()
            ]
        return found


def _by_kind(answers: Mapping[Any, _Answer], kind_of: Callable[[_Answer], str | None]) -> list[dict[str, Any]]:
    """How many answers are of each kind, the most frequent first, with the message of one."""
    counts = Counter(kind for answer in answers.values() if (kind := kind_of(answer)))
    examples = {kind: answer.message for answer in answers.values() if (kind := kind_of(answer)) and answer.message}
    return [{"kind": kind, "count": count, "example": examples.get(kind, "")} for kind, count in counts.most_common()]


def _scores(found: TaskScores | None, pathways: Sequence[str]) -> dict[str, Any]:
    if found is None:
        return {"scored": 0, "metric": None, "share": True, "scores": {}, "difference": None}
    summary = found.summary()
    return {
        "scored": len(found.rows),
        "metric": found.main,
        "share": summary.share,
        "scores": {name: _numbers(summary.means[name]) for name in pathways if name in summary.means},
        "difference": _numbers(summary.difference) if summary.difference and "macro" in pathways else None,
    }


def _numbers(found: Estimate) -> dict[str, float | None]:
    return {"value": json_number(found.value), "low": json_number(found.low), "high": json_number(found.high)}
