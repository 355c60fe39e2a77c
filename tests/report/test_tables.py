"""Tables on the terminal and in pages."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from dualfocus_eval.errors import UserError
from dualfocus_eval.report.tables import Table, fill_page, print_table, to_markdown

TABLE = Table("Title", ("what", "n"), ((("a", "1"), ("b", "2")), (("c", "3"),)), ("A note.",))


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "| what | n |", "| --- | ---: |", "| a | 1 |", "| b | 2 |", "|  |  |", "| c | 3 |", "", "A note.",
    ]  # fmt: skip


def test_the_terminal_shows_every_cell() -> None:
    shown = io.StringIO()
    print_table(TABLE, Console(file=shown, width=80))
    assert all(text in shown.getvalue() for text in ("Title", "what", "a", "1", "c", "3", "A note."))


def test_only_the_marked_places_of_a_page_change(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end of one -->\nbetween\n<!-- other -->\nkept\n")
    fill_page(page, {"one": "new \\1", "two": "unused"})
    expected = "before\n<!-- one -->\nnew \\1\n<!-- end of one -->\nbetween\n<!-- other -->\nkept\n"
    assert page.read_text() == expected
    fill_page(page, {"one": "new \\1"})
    assert page.read_text() == expected


def test_a_page_without_a_place_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(UserError, match="<!-- one --><!-- end of one -->"):
        fill_page(page, {"one": "new"})
    with pytest.raises(UserError, match="cannot be read"):
        fill_page(tmp_path / "missing.md", {"one": "new"})
