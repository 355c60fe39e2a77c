"""A table of numbers with units and intervals, and its forms: terminal, Markdown, CSV, JSON, and places in pages.

Cells keep their numbers, so that CSV and JSON hold numbers and only what people read holds text.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import csv_cell, json_number, json_text, markdown, one_line

__all__ = [
    "Cell",
    "Number",
    "Table",
    "cell_text",
    "fill_page",
    "print_line",
    "print_table",
    "to_csv",
    "to_json",
    "to_markdown",
]


@dataclass(frozen=True)
class Number:
    """A measured value in the unit in which it is shown; ``low`` to ``high`` is its 95% interval, NaN without one."""

    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    """``%``, ``points``, ``s``, ``ms``; empty for plain numbers."""
    decimals: int = 1
    signed: bool = False

    def __str__(self) -> str:
        if math.isnan(self.value):
            return ""
        text = self._written(self.value)
        if math.isnan(self.low) or math.isnan(self.high):
            return text
        return f"{text} ({self._written(self.low)} to {self._written(self.high)})"

    def _written(self, value: float) -> str:
        rounded = round(value, self.decimals) + 0.0  # no minus before a zero
        return f"{rounded:{'+' if self.signed else ''},.{self.decimals}f}"


Cell = str | int | Number | None


@dataclass(frozen=True)
class Table:
    """The first column names the row."""

    title: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[Cell, ...], ...], ...]
    """Rows in groups, set apart by a line."""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """All rows, whatever their group."""
        return [row for rows in self.sections for row in rows]


def cell_text(cell: Cell) -> str:
    """A cell as people read it, still to be escaped for its medium; empty for None and NaN."""
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def print_table(table: Table, console: Console) -> None:
    """Show it on a terminal, intervals only where they fit; elsewhere as wide as it is.

    No number is ever cut: a terminal that is too narrow for the digits breaks the lines itself.
    """
    terminal, table = console.is_terminal, _on_one_line(table, console.encoding)
    whole = not terminal or _width(table) <= console.width
    cells = [[cell_text(cell if whole else _without_interval(cell)) for cell in row] for row in table.rows]
    fits = not terminal or _width(replace(table, sections=(tuple(map(tuple, cells)),))) <= console.width
    columns = [_column(table, cells, place, fits) for place in range(len(table.header))]
    needed = sum(least for least, _ in columns) + len(columns) + 1
    shown = RichTable(
        title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0,
        pad_edge=False, width=needed if needed > console.width else None,
    )  # fmt: skip
    for place, (name, (least, fixed)) in enumerate(zip(table.header, columns, strict=True)):
        shown.add_column(Text(name), justify="right" if place else "left", width=least if fixed else None)
    rest = iter(cells)
    for rows in table.sections:
        for _ in rows:
            shown.add_row(*map(Text, next(rest)))
        shown.add_section()
    console.print(shown, crop=False)
    for note in table.notes:
        print_line(note, console, "dim", soft_wrap=not terminal)
    console.print()


def print_line(text: str, console: Console, style: str = "", *, soft_wrap: bool = True) -> None:
    """Show ``text`` as `one_line`: nothing in it is markup."""
    console.print(Text(one_line(text, console.encoding), style), soft_wrap=soft_wrap)


def to_markdown(table: Table) -> str:
    """It as a Markdown table, its notes below, every text as `escaping.markdown`."""
    lines = [_line(map(markdown, table.header)), _line(["---", *["---:"] * (len(table.header) - 1)])]
    for number, rows in enumerate(table.sections):
        if number:
            lines.append(_line([""] * len(table.header)))
        lines.extend(_line(markdown(cell_text(cell)) for cell in row) for row in rows)
    return "\n".join([*lines, *(f"\n{markdown(note)}" for note in table.notes)])


def to_csv(table: Table) -> str:
    """A line per row under the header, texts as `escaping.csv_cell`; each column that has intervals is followed by its
    low and high ends."""
    intervals = [any(_has_interval(row[place]) for row in table.rows) for place in range(len(table.header))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header: list[str] = []
    for name, interval in zip(table.header, intervals, strict=True):
        header += [name, f"{name} low", f"{name} high"] if interval else [name]
    writer.writerow(map(csv_cell, header))
    for row in table.rows:
        writer.writerow(
            [value for cell, interval in zip(row, intervals, strict=True) for value in _plain(cell, interval)]
        )
    return text.getvalue()


def to_json(table: Table) -> str:
    """Title, notes, header and rows; a measured cell is an object with ``value``, ``low``, ``high`` (null
    where not finite) and ``unit``."""
    rows = [{name: _json_cell(cell) for name, cell in zip(table.header, row, strict=True)} for row in table.rows]
    content = {"title": table.title, "header": table.header, "rows": rows, "notes": table.notes}
    return json_text(content, indent=1) + "\n"


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


def _on_one_line(table: Table, encoding: str) -> Table:
    """``table``, all its texts as `one_line`."""

    def shown(cell: Cell) -> Cell:
        return one_line(cell, encoding) if isinstance(cell, str) else cell

    sections = tuple(tuple(tuple(map(shown, row)) for row in rows) for rows in table.sections)
    header, notes = (tuple(one_line(text, encoding) for text in texts) for texts in (table.header, table.notes))
    return Table(one_line(table.title, encoding), header, sections, notes)


def _width(table: Table) -> int:
    """Columns of the terminal that it takes without breaking a line, the spaces between and around them included."""
    cells = [table.header, *([cell_text(cell) for cell in row] for row in table.rows)]
    return sum(max(cell_len(row[place]) for row in cells) + 1 for place in range(len(table.header))) + 1


def _column(table: Table, cells: Sequence[Sequence[str]], place: int, fits: bool) -> tuple[int, bool]:
    """How wide a column must be, and whether it is to be just so: texts may break, names of rows and numbers not."""
    texts = [row[place] for row in cells]
    if fits:
        return max(map(cell_len, [table.header[place], *texts])), True
    plain = place > 0 and any(isinstance(row[place], str) for row in table.rows)
    words = [table.header[place], *(texts if plain else ())]
    return max(
        map(cell_len, [*(word for text in words for word in text.split()), *(() if plain else texts)])
    ), not plain


def _without_interval(cell: Cell) -> Cell:
    return replace(cell, low=math.nan, high=math.nan) if isinstance(cell, Number) else cell


def _has_interval(cell: Cell) -> bool:
    return isinstance(cell, Number) and not math.isnan(cell.low)


def _plain(cell: Cell, interval: bool) -> Sequence[str | float | None]:
    if isinstance(cell, Number):
        values = [cell.value, cell.low, cell.high] if interval else [cell.value]
        return [None if math.isnan(value) else value for value in values]
    plain = csv_cell(cell) if isinstance(cell, str) else cell
    return [plain, None, None] if interval else [plain]


def _json_cell(cell: Cell) -> Any:
    if not isinstance(cell, Number):
        return cell
    ends = {"low": cell.low, "high": cell.high} if _has_interval(cell) else {}
    numbers = {name: json_number(value) for name, value in ({"value": cell.value} | ends).items()}
    return numbers | {"unit": cell.unit}


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
