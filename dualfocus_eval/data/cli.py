"""``dualfocus data``: render scenes, and the embedded held-out sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.errors import UserError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one data command; 0 when everything was written. Raises ``UserError`` for a wrong argument."""
    parser = argparse.ArgumentParser(prog="dualfocus data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scenes = commands.add_parser("scenes", help="scenes with questions in Visual Genome's annotation format")
    scenes.add_argument("--out", type=Path, required=True, help="folder to write to")
    scenes.add_argument("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    scenes.add_argument("--seed", type=int, default=0, help="which endless series of scenes (default: %(default)s)")
    minis = commands.add_parser("minis", help="the embedded sets of df_scenes_mini and df_pope_mini, bit for bit")
    minis.add_argument("--out", type=Path, help="tasks folder to write to (default: the package's own)")
    options = parser.parse_args(argv)
    return _scenes(options.out, options.count, options.seed) if options.command == "scenes" else _minis(options.out)


def _scenes(out: Path, count: int, seed: int) -> int:
    if count < 1:
        raise UserError(f"--count {count}: must be 1 or more")
    from rich.progress import Progress

    from dualfocus_eval.data.scenes.layout import compose
    from dualfocus_eval.data.scenes.visual_genome import write_visual_genome

    with Progress() as progress:
        bar = progress.add_task("scenes", total=count)
        questions = write_visual_genome(
            (compose(seed, index) for index in range(count)), out, lambda: progress.advance(bar)
        )
    print(f"{count} images with {questions} questions in {out}")
    return 0


def _minis(out: Path | None) -> int:
    from dualfocus_eval.data.minis import write_minis
    from dualfocus_eval.resources import resource_folder

    for path in write_minis(out or resource_folder("tasks")):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
