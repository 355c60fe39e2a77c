"""docs/exactness.csv, every row that was measured, and the table of docs/exactness.md, the worst row of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from dualfocus_eval.common.tables import Cell, Table, fill_page, to_markdown
from dualfocus_eval.families import family_of
from measurements.random_models import ARCHITECTURES

__all__ = ["PAGE", "ROWS", "Row", "read_rows", "reuse", "table", "write_rows"]

PAGE = Path(__file__).parent.parent / "docs" / "exactness.md"
ROWS = PAGE.with_suffix(".csv")


@dataclass(frozen=True)
class Row:
    """How one configuration of the engine compares with the reference; the columns of the CSV file."""

    model: str
    dtype: str
    batch: int
    prefix_cache: str
    rows: int
    """Conversations and scores compared."""
    tokens: int
    largest_difference: float
    """Of log-probabilities, in nats, before rows part."""
    parted: int
    """Rows that got other tokens where the reference's two best logits are within the tolerance."""
    differing: int
    """Rows that got other tokens elsewhere, or that failed."""
    reused: float
    """Share of the prompt tokens taken from the prefix cache."""
    evictions: int


def table(rows: Iterable[Row]) -> Table:
    """The row with the largest difference of each model and dtype."""
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = worst.setdefault((row.model, row.dtype), row)
        if row.largest_difference > known.largest_difference:
            worst[row.model, row.dtype] = row
    return Table(
        title="",
        header=(
            "model",
            "dtype",
            "batch",
            "prefix cache",
            "rows",
            "tokens",
            "difference",
            "parted",
            "differing",
        ),
        sections=(tuple(map(_cells, worst.values())),),
    )


def _cells(row: Row) -> tuple[Cell, ...]:
    sizes = (row.model, row.dtype, row.batch, row.prefix_cache, row.rows, row.tokens)
    return (*sizes, f"{row.largest_difference:.1e}", row.parted, row.differing)


def reuse(rows: Iterable[Row]) -> str:
    """A line for each model whose prefixes cannot all be reused, with the reason."""
    families = {row.model: family_of(row.model) for row in rows if row.model in ARCHITECTURES}
    whole = {name: f"no prefix reuse: {family.no_reuse}" for name, family in families.items() if family.no_reuse}
    partly = {
        name: f"no reuse of the first pass by the second: {family.limited_reuse}"
        for name, family in families.items()
        if family.limited_reuse
    }
    return "\n".join(f"- {name}: {reason}." for name, reason in sorted((whole | partly).items()))


def write_rows(rows: Sequence[Row]) -> None:
    """Put ``rows`` into the CSV file and the page's table, in place of what was measured of the same models."""
    models = {row.model for row in rows}
    kept = [row for row in read_rows() if row.model not in models]
    together = sorted([*kept, *rows], key=lambda row: row.model)
    pd.DataFrame(map(asdict, together)).to_csv(ROWS, index=False)
    fill_page(PAGE, {"exactness": to_markdown(table(together)), "reuse": reuse(together)})


def read_rows() -> list[Row]:
    """What the CSV file has."""
    return [Row(**row) for row in pd.read_csv(ROWS).to_dict("records")]
