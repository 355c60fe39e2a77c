"""The report's numbers again, from a run's files alone: nothing here comes from ``dualfocus_eval``.

`tables_of` gives every table of a report as it should be. What the report computes with its own classes is written here
from the definitions in docs/reports.md and docs/statistics.md, with pandas, and with other libraries' functions where
there are some (lmms-eval's own scorers, scipy's Mann-Whitney U, the roots of Wilson's equation).
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.recomputed.answers import read_answers
from tests.integration.recomputed.boxes import box_tables
from tests.integration.recomputed.cells import Table
from tests.integration.recomputed.confidence import confidence_tables
from tests.integration.recomputed.cost import cost_tables
from tests.integration.recomputed.facts import fact_tables, published_tables
from tests.integration.recomputed.scores import overview_tables, score_tables
from tests.integration.recomputed.selection import selection_tables
from tests.integration.recomputed.thresholds import threshold_tables

__all__ = ["overview_tables", "read_answers", "tables_of"]


def tables_of(folder: Path, published: Path) -> dict[str, Table]:
    """Every table, by name, of the report of the run in ``folder``; ``published`` holds the paper's numbers."""
    run = read_answers(folder)
    return {
        **fact_tables(run),
        **score_tables(run, published),
        **selection_tables(run),
        **confidence_tables(run),
        **threshold_tables(run),
        **box_tables(run),
        **cost_tables(run),
        **published_tables(published),
    }
