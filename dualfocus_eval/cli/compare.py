"""``dualfocus compare``: two runs of the same questions, with honest statistics, and every flip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.two_runs import add_runs, parse_runs, print_runs, read_runs, status_of
from dualfocus_eval.common.errors import UserError

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Print the comparison; with ``--flips`` write every question whose score differs. The exit status is 1 where
    a run has lost samples of its questions, or failed on some, else 0.

    Raises ``UserError`` where a run cannot be read or the runs have no question in common.
    """
    chosen = parse_runs(_parser(), argv)
    from rich.console import Console

    from dualfocus_eval.analysis.pairing import (
        changed_engine,
        changed_settings,
        compare_categories,
        compare_tasks,
        describe,
        pair_runs,
    )
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.report.run_comparison import comparison_table, flip_tables, flips_of, write_flips

    first, second = read_runs(chosen)
    compared = pair_runs(first, second)
    pairs, console = compared.rows, Console()
    print_runs(first, second, console)
    if engines := changed_engine(first, second):
        print_line(f"engine: {engines}", console)
    if changed := changed_settings(first, second):
        print_line("settings: " + ", ".join(changed), console)
    if compared.left_out:
        said = f"comparing the {len(pairs):,} questions that both runs have; left out: {describe(compared.left_out)}"
        print_line(said, console, "yellow")
    tables = [comparison_table("Tasks", "task", compare_tasks(pairs))]
    categories = compare_categories(pairs, first, second)
    tables += [comparison_table("Categories", "category", categories)] if categories else []
    flips = flips_of(pairs)
    for table in (*tables, *flip_tables(flips)):
        print_table(table, console)
    if chosen.flips:
        try:
            write_flips(flips, chosen.flips)
        except OSError as error:
            raise UserError(f"--flips: {chosen.flips} cannot be written: {error}") from error
        print_line(f"{len(flips):,} flips: {chosen.flips}", console)
    if chosen.out:
        from dualfocus_eval.report.inspector_pair import write_pair

        page = write_pair(first, second, pairs, f"A and B: {first.name} and {second.name}", chosen.out)
        print_line(f"both runs' answers: {page}", console)
    return status_of(first, second)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus compare",
        description="Compare two runs question by question: the difference with a bootstrap interval over images, "
        "McNemar's test, Holm's correction for several tasks or categories, and the questions whose result changed. "
        "Only questions that both runs answered are compared; the output says how many are left out, and why.",
        epilog="exit status: 0 done; 1 done, but a run has lost samples of its questions, or questions failed; 2 "
        "nothing to compare; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    add_runs(parser, second="another run of the same questions, by any model")
    parser.add_argument("--flips", type=Path, metavar="FILE", help="write every question whose score changed, as CSV")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write a page with both runs' boxes and answers side by side; it opens "
        "with the questions whose score changed",
    )  # fmt: skip
    return parser
