"""``dualfocus compare``: two runs of the same questions, with honest statistics, and every flip."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from dualfocus_eval.analysis.pairing import Comparison
    from dualfocus_eval.analysis.runs import Run
    from dualfocus_eval.common.tables import Table

__all__ = ["comparison_table", "main"]

WHOLE, LOST = 0, 1
_SHOWN = 10
"""Flips of a direction on the terminal."""


def main(argv: Sequence[str]) -> int:
    """Print the comparison; with ``--flips`` write every question whose score differs. The exit status is 1 where
    a run has lost samples of its questions, or failed on some, else 0.

    Raises ``UserError`` where a run cannot be read or the runs have no question in common.
    """
    chosen = _parser().parse_args(argv)
    for place in (chosen.first, chosen.second):
        if not place.exists():
            raise UserError(f"there is no run {place}; name the --output_path of a run with --log_samples")
    from rich.console import Console

    from dualfocus_eval.analysis.pairing import compare_categories, compare_tasks, describe, pair_runs
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table

    first, second = read_run(chosen.first), read_run(chosen.second)
    compared = pair_runs(first, second)
    pairs, console = compared.rows, Console()
    for letter, run in (("A", first), ("B", second)):
        print_line(f"{letter}: {run.path}", console)
        print_faults(run, console)
    _show_settings(first, second, console)
    if compared.left_out:
        said = f"compared are the {len(pairs):,} questions that both runs have; left out: {describe(compared.left_out)}"
        print_line(said, console, "yellow")
    tables = [comparison_table("Tasks", "task", compare_tasks(pairs))]
    categories = compare_categories(pairs, first, second)
    tables += [comparison_table("Categories", "category", categories)] if categories else []
    flips = pairs[pairs["score_first"] != pairs["score_second"]].dropna(subset=["score_first", "score_second"])
    worse = flips["score_second"] < flips["score_first"]
    tables += [_flips("Right in A, wrong or less right in B", flips[worse])] if worse.any() else []
    tables += [_flips("Wrong or less right in A, right in B", flips[~worse])] if (~worse).any() else []
    for table in tables:
        print_table(table, console)
    if chosen.flips:
        _write_flips(flips, chosen.flips)
        print_line(f"{len(flips):,} flips: {chosen.flips}", console)
    lost = any(run.lost or run.failures for run in (first, second))
    return LOST if lost else WHOLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus compare",
        description="Compare two runs question by question: the difference with a bootstrap interval over images, "
        "McNemar's test, Holm's correction for several tasks or categories, and the questions that flipped. "
        "Compared are the questions that both runs answered; how many are left out, and why, is said.",
        epilog="exit status: 0 done; 1 done, but a run has lost samples of questions that it asked, or some failed; 2 "
        "nothing to compare; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument("first", type=Path, metavar="A", help="the --output_path of a run with --log_samples")
    parser.add_argument("second", type=Path, metavar="B", help="another run of the same questions, by any model")
    parser.add_argument("--flips", type=Path, metavar="FILE", help="write every flip as CSV")
    return parser


def _show_settings(first: Run, second: Run, console: Console) -> None:
    from dualfocus_eval.common.tables import print_line

    names = dict.fromkeys([*first.settings, *second.settings])
    changed = [
        f"{name} {first.settings[name]} -> {second.settings[name]}"
        for name in names
        if name in first.settings and name in second.settings and first.settings[name] != second.settings[name]
    ]
    if changed:
        print_line("settings: " + ", ".join(changed), console)


def comparison_table(title: str, unit: str, comparisons: Sequence[Comparison]) -> Table:
    """A row per comparison; what the columns mean, and what was left out, in the notes."""
    from dualfocus_eval.analysis.intervals import Estimate
    from dualfocus_eval.analysis.measures import scale_notes, shown
    from dualfocus_eval.common.tables import Number, Table

    rows = tuple(
        (
            found.name,
            found.questions,
            found.images,
            shown(Estimate(found.first, math.nan, math.nan), share=found.share),
            shown(Estimate(found.second, math.nan, math.nan), share=found.share),
            replace(shown(found.difference, share=found.share, unit="points"), signed=True),
            found.test.better,
            found.test.worse,
            Number(found.test.p_two_sided, decimals=4),
            Number(found.p_adjusted, decimals=4),
        )
        for found in comparisons
    )
    tested = sum(found.questions > 0 for found in comparisons)
    unscored = "; ".join(f"{found.name}: {found.unscored:,}" for found in comparisons if found.unscored)
    notes = (
        "B - A in points with its 95% interval (bootstrap over whole images); p: McNemar's test, two-sided, by image; "
        f"p Holm: adjusted for the number of rows ({tested}).",
        "Compared is the score of each question: MMBench by row, not by circular question, and POPE by accuracy.",
        *scale_notes([found.name for found in comparisons if not found.share]),
        *([f"Not compared, since a run has no score of them: {unscored}."] if unscored else ()),
    )
    header = (unit, "n", "images", "A %", "B %", "B - A", "B better", "B worse", "p", "p Holm")
    return Table(title, header, (rows,), notes)


def _flips(title: str, rows: pd.DataFrame) -> Table:
    from dualfocus_eval.common.tables import Table
    from dualfocus_eval.gate.verdict_text import clipped

    columns = ("key", "question", "target", "answer_first", "answer_second")
    shown = rows.head(_SHOWN)
    cells = tuple(tuple(clipped(str(value)) for value in row) for row in shown[list(columns)].itertuples(index=False))
    notes = (f"and {len(rows) - len(shown):,} more; --flips FILE writes all",) if len(rows) > len(shown) else ()
    return Table(title, ("question", "text", "right answer", "A", "B"), (cells,), notes)


def _write_flips(flips: pd.DataFrame, path: Path) -> None:
    from dualfocus_eval.common.escaping import csv_cell

    names = {
        "answer_first": "answer_a",
        "answer_second": "answer_b",
        "score_first": "score_a",
        "score_second": "score_b",
    }
    texts = ["task", "key", "question", "target", "cluster", "answer_first", "answer_second"]
    shown = flips.assign(**{name: flips[name].map(csv_cell, na_action="ignore") for name in texts})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shown.rename(columns=names).to_csv(path, index=False, lineterminator="\n")
    except OSError as error:
        raise UserError(f"--flips: {path} cannot be written: {error}") from error
