"""docs/exactness.md shows the worst rows of docs/exactness.csv, and they hold what the page promises."""

from __future__ import annotations

from dualfocus_eval.common.tables import to_markdown
from dualfocus_eval.families import family_of
from measurements.exactness_page import PAGE, read_rows, reuse, table
from measurements.random_models import ARCHITECTURES


def test_the_page_shows_the_worst_rows() -> None:
    assert to_markdown(table(read_rows())) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_what_is_not_reused() -> None:
    assert reuse(read_rows()) in PAGE.read_text(encoding="utf-8")


def test_every_architecture_was_measured() -> None:
    """In float32 and float64, in batches of 1, 3 and 16, with at least 200 conversations; with every use of the cache
    where there is one."""
    measured: dict[str, set[tuple[str, int, str]]] = {}
    for row in read_rows():
        assert row.rows >= 200
        measured.setdefault(row.model, set()).add((row.dtype, row.batch, row.prefix_cache))
    for name in ARCHITECTURES:
        caches = {"off"} if family_of(name).no_reuse else {"off", "on", "evicting"}
        wanted = {(dtype, batch, cache) for dtype in ("float32", "float64") for batch in (1, 3, 16) for cache in caches}
        assert wanted <= measured[name], name


def test_what_is_promised_was_measured() -> None:
    promised = [row for row in read_rows() if row.dtype != "bfloat16"]
    assert all(row.differing == 0 and row.largest_difference <= 1e-4 for row in promised)
    assert all(row.parted <= (0.01 * row.rows if row.dtype == "float32" else 0) for row in promised)
