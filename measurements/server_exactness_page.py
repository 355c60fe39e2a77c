"""docs/exactness-server.csv, and the table of it in docs/exactness.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from dualfocus_eval.common.tables import Table, fill_page, to_markdown
from measurements.exactness_page import PAGE

__all__ = ["PAGE", "ROWS", "Row", "read_rows", "table", "write_rows"]

ROWS = PAGE.with_name("exactness-server.csv")


@dataclass(frozen=True)
class Row:
    """How a server's answers to one set compare with those in process; the columns of the CSV file."""

    task: str
    questions: int
    equal: int
    """Questions whose tokens, boxes, crops and selections are all equal."""
    parted: int
    """Questions that differ from where the choice in process was closer than the tolerance."""
    differing: int
    """Questions that differ otherwise, or that failed."""
    generated: float
    """Largest difference of the log-probabilities of generated tokens, in nats."""
    scored: float
    """Largest difference of the log-probabilities of both candidates in micro context, in nats."""


def table(rows: Iterable[Row]) -> Table:
    """A line for each set."""
    header = ("set", "questions", "equal", "parted", "differing", "difference, generated", "difference, scored")
    cells = (
        (row.task, row.questions, row.equal, row.parted, row.differing, f"{row.generated:.1e}", f"{row.scored:.1e}")
        for row in rows
    )
    return Table(title="", header=header, sections=(tuple(cells),))


def write_rows(rows: Sequence[Row]) -> None:
    """Put ``rows`` into the CSV file and the page's table."""
    pd.DataFrame(map(asdict, rows)).to_csv(ROWS, index=False)
    fill_page(PAGE, {"exactness of servers": to_markdown(table(rows))})


def read_rows() -> list[Row]:
    """What the CSV file has."""
    return [Row(**row) for row in pd.read_csv(ROWS).to_dict("records")]
