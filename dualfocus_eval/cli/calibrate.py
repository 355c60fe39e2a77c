"""``dualfocus calibrate``: fit the choice between both answers on a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import check_writable

if TYPE_CHECKING:
    from dualfocus_eval.common.tables import Table
    from dualfocus_eval.method.selection.calibration import Calibration, Interval

__all__ = ["main"]

WHOLE, IMPAIRED = 0, 1


def main(argv: Sequence[str]) -> int:
    """Fit, write the file, and print what it is worth; status 1 where something of the run could not be used."""
    chosen = _parser().parse_args(argv)
    _refuse_out(chosen.out)
    from rich.console import Console

    from dualfocus_eval.analysis.calibrating import calibrate
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.method.selection.calibration import save_calibration

    run = read_run(chosen.run)
    found = calibrate(run, chosen.run)
    save_calibration(found, chosen.out)
    console = Console()
    print_line(f"run: {run.path}", console)
    print_faults(run, console)
    print_table(_table(found), console)
    print_line(_verdict(found), console)
    print_line(f"{found.name}: {chosen.out}; use it with --model_args selection={chosen.out}", console)
    return IMPAIRED if any(not fault.harmless for fault in run.faults) else WHOLE


def _refuse_out(path: Path) -> None:
    """Raise ``UserError`` for a file that could not be written, or not be named as ``selection``."""
    if path.suffix != ".json":
        raise UserError(f"--out {path}: selection=FILE knows a calibration by its ending: name it {path.stem}.json")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file")
    try:
        check_writable(path.parent)
    except OSError as error:
        raise UserError(f"--out {path} cannot be written: {error.strerror or error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus calibrate",
        description="Fit a logistic regression that tells which of the two answers is the better one, from what the "
        "traces of a finished run have: perplexities, agreement, box area, kind of answer.",
        epilog="The file is for the model of the run only. Judge it on other images than the run's: reports leave "
        "those out. exit status: 0 done; 1 done, but part of the run could not be used; 2 nothing to fit; 3 an error "
        "in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the --output_path of a run made with --log_samples, or its "
        "*_results.json",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="file to write")
    return parser


def _table(found: Calibration) -> Table:
    from dualfocus_eval.common.tables import Number, Table

    def number(interval: Interval) -> Number:
        value, low, high = (float("nan") if one is None else one for one in interval)
        return Number(value, low, high)

    rows = tuple((name, number(interval)) for name, interval in found.validation.scores.items())
    folds = found.validation.folds
    questions = sum(task.questions for task in found.tasks.values())
    differing = sum(task.differing for task in found.tasks.values())
    notes = (
        f"{questions:,} questions about {found.validation.images:,} images; fitted on the {differing:,} that "
        "perplexity decides and of which one answer scores higher.",
        f"calibrated: each image's questions are judged by a fit without it ({folds} folds). In brackets: 95% "
        "interval, clustered by image.",
    )
    return Table("Score of each choice (%)", ("choice", "score"), (rows,), notes)


def _verdict(found: Calibration) -> str:
    value, low, high = found.validation.closed
    if value is None:
        return f"the best rule, {found.validation.best_rule}, leaves no gap to the oracle"
    interval = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
    warning = "" if low is not None and low > 0 else ": it is not clearly better than that rule"
    return f"gap closed between {found.validation.best_rule} and the oracle: {value:.0%}{interval}{warning}"
