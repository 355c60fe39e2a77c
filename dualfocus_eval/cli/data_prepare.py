"""``dualfocus data prepare``: an official release, as the df tasks read it from $DUALFOCUS_DATA."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.data_root import add_root, chosen_root
from dualfocus_eval.cli.listing import list_faults
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.datasets import BENCHMARKS, benchmark_named

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Prepare one benchmark; 0 when everything was prepared, 1 when something was left out.

    Raises ``UserError`` for an unknown benchmark, and for files that are missing or cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="dualfocus data prepare", description="Convert an official release into what the df tasks read."
    )
    parser.add_argument("benchmark", help=f"one of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--source", type=Path, required=True, help="folder of the official files, images included")
    add_root(parser)
    options = parser.parse_args(argv)
    root = chosen_root(options.out)
    benchmark = benchmark_named(options.benchmark)
    from rich.progress import Progress

    from dualfocus_eval.datasets.prepare import prepare

    with Progress() as progress:
        bar = progress.add_task(benchmark.title, total=sum(benchmark.counts.values()))
        manifest = prepare(benchmark, options.source, root, lambda: progress.advance(bar))
    rows = ", ".join(f"{split} {entry['rows']}" for split, entry in manifest["splits"].items())
    missing = [split for split in benchmark.counts if split not in manifest["splits"]]
    print(one_line(f"{root / benchmark.name}: {rows} questions on {manifest['images']} images"))
    if missing:
        print(one_line(f"not in {options.source}: {', '.join(missing)}"))
    left_out = [f"left out {entry['where']}: {entry['reason']}" for entry in manifest["left_out"]]
    list_faults(left_out, "... and {} more, all in the manifest".format)
    return 1 if left_out else 0
