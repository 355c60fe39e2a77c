"""docs/reliability.md shows the injected faults that the command injects; the command itself is in `make prove`."""

from __future__ import annotations

from dualfocus_eval.common.tables import to_markdown
from measurements.injected_faults.__main__ import PAGE, all_cases, table


def test_the_page_has_every_case() -> None:
    cases = all_cases()
    assert len({(case.command, case.fault) for case in cases}) == len(cases) >= 60
    assert to_markdown(table(cases)) in PAGE.read_text()
