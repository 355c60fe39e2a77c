"""docs/exactness.md shows the worst rows of docs/exactness.csv, and they hold what the page promises."""

from __future__ import annotations

from dualfocus_eval.common.tables import to_markdown
from measurements.exactness_page import PAGE, read_rows, table


def test_the_page_shows_the_worst_rows() -> None:
    assert to_markdown(table(read_rows())) in PAGE.read_text(encoding="utf-8")


def test_what_is_promised_was_measured() -> None:
    promised = [row for row in read_rows() if row.dtype != "bfloat16"]
    assert all(row.differing == 0 and row.largest_difference <= 1e-4 for row in promised)
    assert all(row.parted <= (0.01 * row.rows if row.dtype == "float32" else 0) for row in promised)
