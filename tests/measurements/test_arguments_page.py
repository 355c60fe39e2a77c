"""docs/arguments.md shows the arguments as they are defined."""

from __future__ import annotations

from dualfocus_eval.harness.arguments import ARGUMENTS
from measurements.arguments_page import PAGE, tables


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, table in tables().items() if table not in page] == [], (
        "python -m measurements.arguments_page --write"
    )
    assert [name for name in ARGUMENTS if f"| `{name}` |" not in page] == []
