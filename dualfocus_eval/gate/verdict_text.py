"""A verdict in words: its tables, its headline, and a line for each answer that moved."""

from __future__ import annotations

import json
import math

from dualfocus_eval.common.escaping import clipped
from dualfocus_eval.common.tables import Number, Table
from dualfocus_eval.gate.baseline import Answer
from dualfocus_eval.gate.judging import SIGNIFICANT, TIE
from dualfocus_eval.gate.verdict import Mode, Move, Verdict

__all__ = ["headline", "move_line", "move_table", "ranked_moves", "task_table"]

_MODES: dict[Mode, str] = {
    "exact": "the baseline's own environment: no answer may get worse",
    "near": f"another environment: an answer may get worse if its smallest margin was below {TIE} nats",
    "score": "not float32, or a server, which does not tell: any answer may get worse; the scores are tested",
    "drop": "--max-drop: any answer may get worse, and scores may fall by this much",
}


def headline(verdict: Verdict) -> str:
    """The verdict in one line, without markup."""
    moved, forbidden = len(verdict.moves), sum(not move.allowed for move in verdict.moves)
    if verdict.passed:
        worse = sum(move.direction in ("worse", "not known") for move in verdict.moves)
        found = (
            f"{moved:,} answers changed, {f'{worse:,} for the worse, as allowed' if worse else 'none for the worse'}"
        )
        return f"passed: {verdict.questions:,} questions, " + (found if moved else "every answer is the baseline's")
    parts = [f"{forbidden:,} of {verdict.questions:,} answers got worse or were lost"] if forbidden else []
    parts += [f"the score of {task.name} {shortfall}" for task in verdict.tasks for shortfall in task.shortfalls]
    return "regression: " + "; ".join(parts)


def task_table(verdict: Verdict) -> Table:
    """Scores and moves by task; the notes say by which measure they were judged."""
    rows = tuple(
        (
            task.name,
            len(task.keys),
            Number(100 * task.before, unit="%"),
            Number(100 * task.after, unit="%"),
            Number(100 * (task.after - task.before), unit="points", signed=True),
            len(task.moves),
            sum(not move.allowed for move in task.moves),
            Number(task.p_worse, decimals=3),
        )
        for task in verdict.tasks
    )
    notes = [_MODES[verdict.mode] + (f" ({'; '.join(verdict.differences)})" if verdict.differences else "")]
    if verdict.settings:
        notes.append("settings differ: " + "; ".join(verdict.settings))
    if verdict.unjudged:
        notes.append("not in the baseline, not judged: " + ", ".join(verdict.unjudged))
    decides = "; not used here" if verdict.mode == "drop" else f"; a score got worse if p is below {SIGNIFICANT}"
    notes.append(f"p: McNemar's test, one-sided, whole images, adjusted for the number of tasks (Holm){decides}")
    header = ("task", "n", "baseline %", "run %", "points", "changed", "worse or lost", "p worse")
    return Table("Regression", header, (rows,), tuple(notes))


def move_table(verdict: Verdict, most: int) -> Table:
    """The answers that moved, as `ranked_moves` orders them; at most ``most``, the rest counted in a note."""
    moves = ranked_moves(verdict)
    rows = tuple(
        (move.key, _text(move.before), _text(move.after), move.direction, _gap(move), "yes" if move.allowed else "no")
        for move in moves[:most]
    )
    notes = (f"and {len(moves) - most:,} more",) if len(moves) > most else ()
    return Table(
        "Changed answers", ("question", "baseline", "run", "now", "smallest margin", "allowed"), (rows,), notes
    )


def ranked_moves(verdict: Verdict) -> list[Move]:
    """The answers that moved: those that may not first, and of these the ones that were lost or got worse."""
    return sorted(verdict.moves, key=lambda move: (move.allowed, move.direction not in ("lost", "worse")))


def move_line(move: Move) -> str:
    """One answer that moved, on one line."""
    return (
        f"{move.key}: {_text(move.before)} -> {_text(move.after)}, {move.direction}, smallest margin {_gap(move)} nats"
    )


def _gap(move: Move) -> str:
    return "unknown" if math.isnan(move.before.gap) else f"{move.before.gap:.2g}"


def _text(answer: Answer) -> str:
    """Quoted, so that spaces and odd characters show; cut to a length that fits a table."""
    return "failed" if answer.text is None else clipped(json.dumps(answer.text))
