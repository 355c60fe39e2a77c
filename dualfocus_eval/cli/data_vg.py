"""``dualfocus data vg``: Visual Genome's files to DualFocus training samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.listing import list_faults
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

__all__ = ["main"]

_OVERLAP = "share of an object's area that must lie inside the box for the object to count as inside"
_PARTS = "question_answers.json, objects.json, image_data.json, region_descriptions.json, qa_to_region_mapping.json"


def main(argv: Sequence[str]) -> int:
    """Curate and say what became of the questions; 0, or 1 when something could not be read.

    Raises ``UserError`` for a wrong option and for files that are missing or not Visual Genome's.
    """
    options = _parser().parse_args(argv)
    from rich.console import Console
    from rich.progress import Progress

    from dualfocus_eval.cli.recipes import given_recipe
    from dualfocus_eval.common.processes import usable_processors
    from dualfocus_eval.common.tables import print_table
    from dualfocus_eval.curation.run import curate
    from dualfocus_eval.curation.settings import curation_settings
    from dualfocus_eval.curation.tally import funnel_table, paper_table, write_report

    recipe = given_recipe(options.recipe) if options.recipe else None
    settings = curation_settings(recipe, {"margin": options.margin, "overlap": options.overlap})
    workers = usable_processors() if options.workers is None else options.workers
    if workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")
    for name in ("source", "images"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{name} {folder} is not a folder")
    with Progress() as progress:
        bar = progress.add_task("images", total=None)
        tally = curate(
            options.source, options.out, settings, images=options.images, workers=workers,
            on_images=lambda done, total: progress.update(bar, completed=done, total=total),
        )  # fmt: skip
    try:
        write_report(tally, settings, options.out)
    except OSError as error:
        raise UserError(f"{options.out} cannot be written: {error}") from error
    console = Console()
    print_table(funnel_table(tally), console)
    print_table(paper_table(tally), console)
    for name in tally.release.missing:
        print(f"{name} is missing: only questions that refer to objects get a box", file=sys.stderr)
    faults = [f"{fault.where}: {fault.reason}" for fault in tally.faults]
    list_faults(faults, "... and {} more, in report.json".format)
    if tally.read == 0:
        raise UserError(f"{options.source / 'question_answers.json'} has no question that can be read")
    print(one_line(f"{options.out}: {tally.samples} samples, report.md explains what happened to the other questions"))
    return 1 if tally.unreadable else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus data vg", description="Build DualFocus training samples from Visual Genome's files."
    )
    parser.add_argument("--source", type=Path, required=True, help=f"folder of the release's {_PARTS}")
    parser.add_argument("--out", type=Path, required=True, help="folder to write samples, exclusions and report to")
    parser.add_argument("--images", type=Path, help="folder with VG_100K and VG_100K_2; also cuts the sub-regions")
    parser.add_argument("--recipe", help="recipe that gives prompt_set, crop, margin and the curation section")
    parser.add_argument("--margin", type=float, help="pixels around the squared box (default: the recipe's, or 25)")
    parser.add_argument("--overlap", type=float, help=f"{_OVERLAP} (default: the recipe's, or 0.5)")
    parser.add_argument("--workers", type=int, help="processes (default: one per processor)")
    return parser
