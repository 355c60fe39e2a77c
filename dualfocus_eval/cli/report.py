"""``dualfocus report``: everything that one run's traces tell, as a page, tables and figures."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

if TYPE_CHECKING:
    from dualfocus_eval.analysis.runs import Run
    from dualfocus_eval.report.section import Section

__all__ = ["main", "report_run", "sections_of"]

WHOLE, IMPAIRED = 0, 1


def main(argv: Sequence[str]) -> int:
    """Write the report and name it; status 1 where something of a run could not be used (it is listed)."""
    chosen = _parser().parse_args(argv)
    from rich.console import Console

    from dualfocus_eval.common.tables import print_line

    runs, unread = _read(chosen.runs)
    if not runs:
        raise UserError("; ".join(unread))
    with _kept():
        if len(chosen.runs) == 1:
            index = report_run(next(iter(runs.values())), chosen.out)
        else:
            index = _report_several(runs, unread, chosen.out)
    for name, run in runs.items():
        _show(name, run)
    for problem in unread:
        print(f"dualfocus report: {one_line(problem)}", file=sys.stderr)
    print_line(f"report: {index}", Console())
    impaired = unread or any(not fault.harmless for run in runs.values() for fault in run.faults)
    return IMPAIRED if impaired else WHOLE


@contextmanager
def _kept() -> Iterator[None]:
    """What was read stays until the end: garbage collection need not walk it again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def report_run(run: Run, out: Path) -> Path:
    """Write the report of one run below ``out``; its index.html."""
    from dualfocus_eval.report.page import write_report

    return write_report(out, f"DualFocus: {_title(run)}", sections_of(run), [str(fault) for fault in run.faults])


def sections_of(run: Run) -> list[Section]:
    """Every subject of a report, in the order of its page."""
    from dualfocus_eval.report.sections import (
        boxes,
        categories,
        confidence,
        cost,
        overview,
        published,
        questions,
        selection,
        strategies,
        thresholds,
    )

    return [
        overview.run_section(run),
        strategies.strategy_section(run),
        categories.category_section(run),
        strategies.pope_section(run),
        selection.selection_section(run),
        confidence.confidence_section(run),
        thresholds.threshold_section(run),
        boxes.box_section(run),
        cost.cost_section(run),
        questions.question_section(run),
        published.main_section(run),
        overview.official_section(run),
        published.published_section(),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus report",
        description="From one finished run, without running it again: strategies, scores per category, "
        "selection, perplexities, adaptive thresholds, boxes and cost, as a page, Markdown, CSV, JSON and figures.",
        epilog="exit status: 0 done; 1 done, but something of a run could not be used (the page lists it); 2 nothing "
        "to report; 3 an error in dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the --output_path of a run made with --log_samples, or its "
        "*_results.json; runs of other models are reported as far as they go",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    return parser


def _read(places: Sequence[Path]) -> tuple[dict[str, Run], list[str]]:
    """The runs by a name for each, and why others cannot be read."""
    from dualfocus_eval.analysis.reading import read_run

    runs: dict[str, Run] = {}
    unread = []
    for number, place in enumerate(places, 1):
        try:
            run = read_run(place)
        except UserError as error:
            unread.append(str(error))
        else:
            runs[f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', place.resolve().name)}"] = run
    return runs, unread


def _report_several(runs: dict[str, Run], unread: Sequence[str], out: Path) -> Path:
    from dualfocus_eval.report.page import write_report
    from dualfocus_eval.report.sections.overview import overview_section

    faults = [*unread, *(f"{name}: {fault}" for name, run in runs.items() for fault in run.faults)]
    # First, since it removes what an earlier report left there.
    index = write_report(out, f"DualFocus: {len(runs)} runs", [overview_section(runs)], faults)
    for name, run in runs.items():
        report_run(run, out / name)
    return index


def _show(name: str, run: Run) -> None:
    from rich.console import Console

    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.report.sections.strategies import strategy_section

    console = Console()
    print_line(f"{name}: {_title(run)}", console)
    for table in strategy_section(run).tables.values():
        print_table(table, console)
    print_faults(run, console)


def _title(run: Run) -> str:
    model = run.record["engine"]["pretrained"] if run.record else run.results.get("model_name") or "another model"
    return f"{Path(str(model)).name}, {len(run.answers):,} questions"
