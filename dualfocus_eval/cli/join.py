"""``dualfocus join``: two finished runs as one, with the answer of lower perplexity to each question."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError

__all__ = ["main"]

WHOLE, LOST = 0, 1
RULES = ("own_context",)
"""Rules that need nothing but each answer's own perplexity. All others score both answers in one conversation."""


def main(argv: Sequence[str]) -> int:
    """Print the scores of both runs, of the joined answers and of the oracle. The exit status is 1 where a run has lost
    samples of its questions, or failed on some, else 0.

    Raises ``UserError`` where a run cannot be read or the runs cannot be joined.
    """
    chosen = _parser().parse_args(argv)
    for place in (chosen.first, chosen.second):
        if not place.exists():
            raise UserError(f"there is no run {place}; name the --output_path of a run with --log_samples")
    from rich.console import Console

    from dualfocus_eval.analysis.pairing import describe
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.analysis.run_join import join_runs
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.report.joined_runs import joined_tables

    first, second = read_run(chosen.first), read_run(chosen.second)
    joined, console = join_runs(first, second), Console()
    for letter, run in (("A", first), ("B", second)):
        print_line(f"{letter}: {run.path}", console)
        print_faults(run, console)
    if joined.left_out:
        said = f"joining {len(joined.run.answers):,} questions; left out: {describe(joined.left_out)}"
        print_line(said, console, "yellow")
    if joined.other_prompts:
        print_line(describe({"asked with another prompt in B": joined.other_prompts}), console)
    for table in joined_tables(joined).values():
        print_table(table, console)
    lost = any(run.lost or run.failures for run in (first, second))
    return LOST if lost else WHOLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus join",
        description="Decide between the answers of two finished runs by perplexity, question by question: two prompts "
        "of one model, or two models. Prints the scores of A, of B, of the joined answers, and of the oracle, with "
        "paired differences. The runs must be of the same tasks. Only questions that both answered are joined; the "
        "output says how many are left out, and why.",
        epilog="exit status: 0 done; 1 done, but a run has lost samples of its questions, or questions failed; 2 "
        "nothing to join; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument("first", type=Path, metavar="A", help="the --output_path of a run with --log_samples")
    parser.add_argument("second", type=Path, metavar="B", help="another run of the same tasks")
    parser.add_argument(
        "--rule",
        choices=RULES,
        default=RULES[0],
        help="own_context: each answer has the perplexity that it was generated with (default). The other selection "
        "rules score both answers in one conversation, which two finished runs do not have.",
    )
    return parser
