"""What the commands about two finished runs have in common: their arguments, the faults shown, the exit status."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dualfocus_eval.analysis.runs import Run

__all__ = ["add_runs", "parse_runs", "print_runs", "read_runs", "status_of"]

_WHOLE, _LOST = 0, 1


def add_runs(parser: argparse.ArgumentParser, second: str) -> None:
    """Arguments for the runs A and B; ``second`` is the help of B."""
    parser.add_argument("first", type=Path, metavar="A", help="the --output_path of a run with --log_samples")
    parser.add_argument("second", type=Path, metavar="B", help=second)


def parse_runs(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command about two runs. Raises ``UserError`` where A or B is not there."""
    chosen = parser.parse_args(argv)
    for place in (chosen.first, chosen.second):
        if not place.exists():
            raise UserError(f"there is no run {place}; name the --output_path of a run with --log_samples")
    return chosen


def read_runs(chosen: argparse.Namespace) -> tuple[Run, Run]:
    """The runs A and B. Raises ``UserError`` where one cannot be read."""
    from dualfocus_eval.analysis.reading import read_run

    return read_run(chosen.first), read_run(chosen.second)


def print_runs(first: Run, second: Run, console: Console) -> None:
    """Where A and B lie, and what is wrong with their files."""
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line

    for letter, run in (("A", first), ("B", second)):
        print_line(f"{letter}: {run.path}", console)
        print_faults(run, console)


def status_of(first: Run, second: Run) -> int:
    """1 where a run has lost samples of its questions, or failed on some, else 0."""
    return _LOST if any(run.lost or run.failures for run in (first, second)) else _WHOLE
