"""A table, and its two forms: on the terminal and in Markdown pages with places to fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from dualfocus_eval.errors import UserError

__all__ = ["Table", "fill_page", "print_table", "to_markdown"]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row, the others hold numbers."""

    title: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    """Rows in groups, set apart by a line."""
    notes: tuple[str, ...] = ()


def print_table(table: Table, console: Console) -> None:
    """Show it on a terminal."""
    shown = RichTable(
        title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0, pad_edge=False
    )
    for number, name in enumerate(table.header):
        shown.add_column(name, justify="right" if number else "left", no_wrap=not number)
    for rows in table.sections:
        for row in rows:
            shown.add_row(*row)
        shown.add_section()
    console.print(shown)
    for note in table.notes:
        console.print(note, highlight=False, style="dim")
    console.print()


def to_markdown(table: Table) -> str:
    """It as a Markdown table, its notes below."""
    lines = [_line(table.header), _line(["---", *["---:"] * (len(table.header) - 1)])]
    for number, rows in enumerate(table.sections):
        if number:
            lines.append(_line([""] * len(table.header)))
        lines.extend(_line(row) for row in rows)
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)])


def fill_page(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` for every name that the page has.

    Raises ``UserError`` for a page that cannot be read or that has no place for any of the ``blocks``.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"page {page} cannot be read: {error}") from error
    filled = 0
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text, found = pattern.subn(lambda _, new=f"{begin}\n{block}\n{end}": new, text)  # type: ignore[misc]
        filled += found
    if not filled:
        places = ", ".join(f"<!-- {name} --><!-- end of {name} -->" for name in blocks)
        raise UserError(f"page {page} has no place to fill; put one of these into it: {places}")
    page.write_text(text, encoding="utf-8")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
