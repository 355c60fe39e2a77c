"""``dualfocus export``: a finished run's questions in the formats of other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.escaping import one_line

__all__ = ["main"]

_WHOLE, _IMPAIRED = 0, 1
_FORMATS = "jsonl, parquet, hf-dataset or fiftyone"


def main(argv: Sequence[str]) -> int:
    """Export the run; 1 where something of it is not in the export, else 0.

    Raises ``UserError`` for a run that cannot be read, an unknown format, and a folder that cannot be written.
    """
    chosen = _parser().parse_args(argv)
    from rich.console import Console

    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line
    from dualfocus_eval.export import EXPORTS
    from dualfocus_eval.export.exporting import export_run

    form = EXPORTS[chosen.to]
    run = read_run(chosen.run)
    left_out = export_run(run, form, chosen.out)
    console = Console()
    print_line(f"{len(run.answers):,} questions: {chosen.out}", console)
    print_faults(run, console)
    for what in left_out:
        print(one_line(f"dualfocus export: {what}"), file=sys.stderr)
    return _IMPAIRED if left_out or any(not fault.harmless for fault in run.faults) else _WHOLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus export",
        description="Write the questions of a finished run, with pictures, boxes, both answers and what became of "
        "them, in a format that other tools read.",
        epilog="exit status: 0 done; 1 done, but pictures are missing or part of the run could not be used (the last "
        "lines say what); 2 nothing to export; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="the --output_path of a run made with --log_samples, or its *_results.json",
    )
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"{_FORMATS}, or one of another package")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder to write to")
    return parser
