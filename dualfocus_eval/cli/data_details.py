"""``dualfocus data details``: rendered scenes with questions about details, as V*Bench's release has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Write the questions; 0. Raises ``UserError`` for a number below 1 and a folder that cannot be written."""
    parser = argparse.ArgumentParser(
        prog="dualfocus data details",
        description="Render scenes of 2,000 pixels with a question about a detail of each, in V*Bench's format.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; `data prepare vstar` reads it")
    parser.add_argument("--count", type=int, default=1000, help="number of questions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.count < 1:
        raise UserError(f"--count {options.count}: must be 1 or more")
    from rich.progress import Progress

    from dualfocus_eval.tiny.sets.detail import write_release

    try:
        with Progress() as progress:
            bar = progress.add_task("questions", total=options.count)
            write_release(options.out, options.seed, options.count, lambda: progress.advance(bar))
    except OSError as error:
        raise UserError(f"--out {options.out} cannot be written: {error.strerror or error}") from error
    print(one_line(f"{options.count} questions on as many images in {options.out}"))
    return 0
