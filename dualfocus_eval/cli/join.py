"""``dualfocus join``: two finished runs as one, with the answer of lower perplexity to each question."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dualfocus_eval.cli.two_runs import add_runs, parse_runs, print_runs, read_runs, status_of

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Print the scores of both runs, of the joined answers and of the oracle. The exit status is 1 where a run has lost
    samples of its questions, or failed on some, else 0.

    Raises ``UserError`` where a run cannot be read or the runs cannot be joined.
    """
    chosen = parse_runs(_parser(), argv)
    from rich.console import Console

    from dualfocus_eval.analysis.pairing import describe
    from dualfocus_eval.analysis.run_join import join_runs
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.report.joined_runs import joined_tables

    first, second = read_runs(chosen)
    joined, console = join_runs(first, second), Console()
    print_runs(first, second, console)
    if joined.left_out:
        said = f"joining {len(joined.run.answers):,} questions; left out: {describe(joined.left_out)}"
        print_line(said, console, "yellow")
    if joined.other_prompts:
        print_line(describe({"asked with another prompt in B": joined.other_prompts}), console)
    for table in joined_tables(joined).values():
        print_table(table, console)
    return status_of(first, second)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus join",
        description="Decide between the answers of two finished runs by perplexity, question by question: two prompts "
        "of one model, or two models. Prints the scores of A, of B, of the joined answers, and of the oracle, with "
        "paired differences. Each answer has the perplexity that it was generated with. The runs must be of the same "
        "tasks. Only questions that both answered are joined; the output says how many are left out, and why.",
        epilog="exit status: 0 done; 1 done, but a run has lost samples of its questions, or questions failed; 2 "
        "nothing to join; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    add_runs(parser, second="another run of the same tasks")
    return parser
