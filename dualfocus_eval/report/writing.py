"""The report of one run, and of several."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.files import writing_out
from dualfocus_eval.report.inspector import inspector_of, inspector_section
from dualfocus_eval.report.opening import counted, model_name, opening_of
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections import (
    boxes,
    calibration,
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

__all__ = ["report_run", "report_runs", "run_title", "sections_of"]


def report_run(run: Run, out: Path) -> Path:
    """Write the report of one run below ``out``; its index.html.

    Raises ``UserError`` where ``out`` cannot be written.
    """
    inspector = inspector_of(run, f"Every answer: {run_title(run)}")
    beside = inspector.files if len(run.answers) else []
    with _kept():
        faults = [str(fault) for fault in run.faults]
        index = write_report(
            out, f"DualFocus: {run_title(run)}", sections_of(run), faults, opening=opening_of(run), beside=beside
        )
        if beside:
            with writing_out(out):
                inspector.write(out)
    return index


def report_runs(runs: Mapping[str, Run], unread: Sequence[str], out: Path) -> Path:
    """Write the report of each run into the folder of its name below ``out``, and one that compares them.

    ``unread`` says which runs could not be read, and why; the page lists them. Returns the index.html of ``out``.
    """
    faults = [*unread, *(f"{name}: {fault}" for name, run in runs.items() for fault in run.faults)]
    # First, since it removes what an earlier report left there.
    index = write_report(out, f"DualFocus: {len(runs)} runs", [overview.overview_section(runs)], faults)
    for name, run in runs.items():
        report_run(run, out / name)
    return index


def sections_of(run: Run) -> list[Section]:
    """Every subject of a report, in the order of its page."""
    return [
        inspector_section(run),
        strategies.strategy_section(run),
        categories.category_section(run),
        strategies.pope_section(run),
        selection.selection_section(run),
        calibration.calibration_section(run),
        confidence.confidence_section(run),
        thresholds.threshold_section(run),
        boxes.box_section(run),
        cost.cost_section(run),
        questions.question_section(run),
        overview.run_section(run),
        published.main_section(run),
        overview.official_section(run),
        published.published_section(),
    ]


def run_title(run: Run) -> str:
    """The run's model and its number of questions."""
    return f"{model_name(run)}, {counted(len(run.answers), 'question')}"


@contextmanager
def _kept() -> Iterator[None]:
    """What was read stays until the end: garbage collection need not walk it again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
