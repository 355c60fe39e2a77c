"""``dualfocus data verify``: check prepared benchmarks against manifest and published counts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.data_root import add_root, chosen_root
from dualfocus_eval.cli.listing import list_faults
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.datasets import BENCHMARKS, benchmark_named
from dualfocus_eval.datasets.base import Benchmark

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Check each benchmark; 0 when all are whole, 1 otherwise. Raises ``UserError`` where there is none to check."""
    parser = argparse.ArgumentParser(
        prog="dualfocus data verify",
        description="Check prepared benchmarks against their manifest and published counts.",
    )
    parser.add_argument("benchmarks", nargs="*", help="names (default: every prepared benchmark)")
    add_root(parser)
    options = parser.parse_args(argv)
    root = chosen_root(options.out)
    chosen = [benchmark_named(name) for name in options.benchmarks] or [
        benchmark for name, benchmark in BENCHMARKS.items() if (root / name).is_dir()
    ]
    if not chosen:
        raise UserError(
            f"{root} contains no prepared benchmark; make one with `dualfocus data prepare NAME --source DIR`"
        )
    whole = [_is_whole(benchmark, root) for benchmark in chosen]
    return 0 if all(whole) else 1


def _is_whole(benchmark: Benchmark, root: Path) -> bool:
    from dualfocus_eval.datasets.prepared import prepared_table, verify

    faults = list(verify(benchmark, root))
    if faults:
        list_faults(faults, lambda more: f"{root / benchmark.name}: ... and {more} more faults")
        return False
    missing = [split for split in benchmark.counts if not prepared_table(root, benchmark.name, split)]
    rest = f"; not prepared: {', '.join(missing)}" if missing else ""
    print(one_line(f"{root / benchmark.name}: complete, as published{rest}"))
    return True
