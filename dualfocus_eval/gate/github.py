"""A verdict where GitHub Actions shows it: annotations on the run, and the step's summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from dualfocus_eval.common.escaping import github_message, markdown
from dualfocus_eval.common.tables import to_markdown
from dualfocus_eval.gate.verdict import Verdict
from dualfocus_eval.gate.verdict_text import headline, move_line, move_table, ranked_moves, task_table

__all__ = ["announce", "announce_error"]

_TITLE = "dualfocus regress"
_SHOWN = 9
"""GitHub shows ten annotations of a kind for a step."""
_SUMMARY_MOVES = 100


def announce(verdict: Verdict) -> None:
    """Print annotations, the headline first, and append tables to the step's summary.

    A summary that cannot be written is a warning: the verdict stands without it.
    """
    forbidden = [move for move in ranked_moves(verdict) if not move.allowed]
    _annotate("notice" if verdict.passed else "error", [headline(verdict), *map(move_line, forbidden[:_SHOWN])])
    tables = [task_table(verdict)] + ([move_table(verdict, _SUMMARY_MOVES)] if verdict.moves else [])
    _summarise("\n\n".join([f"### {_TITLE}", markdown(headline(verdict)), *map(to_markdown, tables)]))


def announce_error(message: str) -> None:
    """Say that the run could not be judged."""
    _annotate("error", [f"cannot judge: {message}"])
    _summarise(f"### {_TITLE}\n\nCannot judge: {markdown(message)}")


def _annotate(level: str, messages: Iterable[str]) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for message in messages:
        print(f"::{level} title={_TITLE}::{github_message(message, encoding)}", flush=True)


def _summarise(markdown: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(markdown + "\n\n")
        except OSError as error:
            _annotate("warning", [f"the step's summary cannot be written: {error}"])
