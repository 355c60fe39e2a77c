"""``dualfocus data scenes``: rendered scenes in Visual Genome's annotation format."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Write the scenes; 0. Raises ``UserError`` for a number of images below 1."""
    parser = argparse.ArgumentParser(
        prog="dualfocus data scenes", description="Render scenes with questions, in Visual Genome's format."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.count < 1:
        raise UserError(f"--count {options.count}: must be 1 or more")
    from rich.progress import Progress

    from dualfocus_eval.tiny.scenes.layout import compose
    from dualfocus_eval.tiny.scenes.visual_genome import write_visual_genome

    with Progress() as progress:
        bar = progress.add_task("scenes", total=options.count)
        scenes = (compose(options.seed, index) for index in range(options.count))
        questions = write_visual_genome(scenes, options.out, lambda: progress.advance(bar))
    print(one_line(f"{options.count} images with {questions} questions in {options.out}"))
    return 0
