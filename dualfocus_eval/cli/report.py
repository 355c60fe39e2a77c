"""``dualfocus report``: everything that one run's traces tell, as a page, tables and figures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

if TYPE_CHECKING:
    from dualfocus_eval.analysis.runs import Run
    from dualfocus_eval.method.selection.calibration import Calibration

__all__ = ["main"]

WHOLE, IMPAIRED = 0, 1


def main(argv: Sequence[str]) -> int:
    """Write the report and name it; status 1 where something of a run could not be used (it is listed)."""
    chosen = _parser().parse_args(argv)
    from rich.console import Console

    from dualfocus_eval.common.tables import print_line
    from dualfocus_eval.method.selection.calibration import load_calibration
    from dualfocus_eval.report.writing import report_run, report_runs

    calibration = load_calibration(chosen.calibration) if chosen.calibration else None
    runs, unread = _read(chosen.runs, calibration)
    if not runs:
        raise UserError("; ".join(unread))
    if len(chosen.runs) == 1:
        index = report_run(next(iter(runs.values())), chosen.out)
    else:
        index = report_runs(runs, unread, chosen.out)
    for name, run in runs.items():
        _show(name, run)
    for problem in unread:
        print(f"dualfocus report: {one_line(problem)}", file=sys.stderr)
    print_line(f"report: {index}", Console())
    impaired = unread or any(not fault.harmless for run in runs.values() for fault in run.faults)
    return IMPAIRED if impaired else WHOLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus report",
        description="Turn a finished run into a page, Markdown, CSV, JSON and figures, without running the model "
        "again: strategies, scores per category, selection, perplexities, adaptive thresholds, boxes and cost.",
        epilog="exit status: 0 done; 1 done, but part of a run could not be used (the page lists it); 2 nothing "
        "to report; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the --output_path of a run made with --log_samples, or its "
        "*_results.json; runs of other models are reported as far as possible",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the report to")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="a calibrated choice to judge beside the "
        "rules, on the questions about images that it was not fitted on",
    )  # fmt: skip
    return parser


def _read(places: Sequence[Path], calibration: Calibration | None) -> tuple[dict[str, Run], list[str]]:
    """The runs by a name for each, and why others cannot be read."""
    from dualfocus_eval.analysis.reading import read_run

    runs: dict[str, Run] = {}
    unread = []
    for number, place in enumerate(places, 1):
        try:
            run = read_run(place, calibration=calibration)
        except UserError as error:
            unread.append(str(error))
        else:
            runs[f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', place.resolve().name)}"] = run
    return runs, unread


def _show(name: str, run: Run) -> None:
    from rich.console import Console

    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.report.sections.strategies import strategy_section
    from dualfocus_eval.report.writing import run_title

    console = Console()
    print_line(f"{name}: {run_title(run)}", console)
    for table in strategy_section(run).tables.values():
        print_table(table, console)
    print_faults(run, console)
