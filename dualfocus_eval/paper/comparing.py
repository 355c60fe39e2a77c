"""Rows of several runs under the paper's columns, and their paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.analysis.measures import is_share, metric, scale_notes
from dualfocus_eval.analysis.pairing import compare_tasks, describe, pair_runs
from dualfocus_eval.analysis.run_join import macro_alone
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.tables import Cell, Table
from dualfocus_eval.paper.experiment import in_order
from dualfocus_eval.report.run_comparison import comparison_table
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import INTERVALS

__all__ = ["Row", "macro_row", "row_section"]


@dataclass(frozen=True)
class Row:
    """A row of the table: what the run selected. Without a run it says why there is none."""

    label: str
    run: Run | None
    missing: str = ""


def macro_row(label: str, run: Run) -> Row:
    """The row of a run's macro answers."""
    return Row(label, macro_alone(run) if "macro" in run.choices else run)


def row_section(title: str, text: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> Section:
    """A table of ``rows``, and for every row after the first its paired differences to the first that has a run."""
    known = [row for row in rows if row.run is not None]
    runs = [row.run for row in known if row.run is not None]
    tasks = in_order(task for run in runs for task in run.task_names)
    cells = tuple((row.label, *(_cell(row, task) for task in tasks)) for row in rows)
    own = [task for task in tasks if not all(is_share(run, task, str(run.main_metric(task))) for run in runs)]
    metrics = "; ".join(f"{task}: {runs[0].main_metric(task)}" for task in tasks) if runs else ""
    shown = f"{title} (%)" if len(own) < len(tasks) else title
    all_notes = (f"{metrics}. {INTERVALS}", *scale_notes(own), *notes)
    tables = {"rows": Table(shown, ("", *tasks), (cells,), all_notes)}
    for number, row in enumerate(known[1:], 1):
        tables[f"differences_{number}"] = _difference(known[0], row)
    return Section("rows", title, text, tables)


def _cell(row: Row, task: str) -> Cell:
    if row.run is None:
        return row.missing
    main = row.run.main_metric(task)
    return metric(row.run, task, main, "selected")[1] if main and task in row.run.task_names else None


def _difference(first: Row, second: Row) -> Table:
    """A is ``first``, B is ``second``."""
    title = f"A: {first.label}. B: {second.label}"
    assert first.run is not None
    assert second.run is not None
    try:
        pairs = pair_runs(first.run, second.run)
    except UserError as error:
        return Table(title, ("task",), ((),), (str(error),))
    table = comparison_table(title, "task", compare_tasks(pairs.rows))
    if not pairs.left_out:
        return table
    return Table(table.title, table.header, table.sections, (*table.notes, f"Left out: {describe(pairs.left_out)}."))
