"""Where the pages and CSV files of a report say something else than its JSON tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.golden.tables import Tables

__all__ = ["page_differences"]

DATA = ("adaptive_curve",)
"""Tables that the pages link to and do not show."""
Shown = dict[str, list[list[str]]]
"""By title: the header and the rows, as texts; an interval stands in brackets behind its value."""


def page_differences(report: Path, tables: Tables) -> list[str]:
    """A line for each cell of index.html, report.md and the CSV files that is not the cell of the JSON table."""
    found = [line for name, table in tables.items() for line in _csv(report / "tables" / f"{name}.csv", table)]
    titles = {table["title"]: table for name, table in tables.items() if name not in DATA}
    for page in (_html_tables(report / "index.html"), _markdown_tables(report / "report.md")):
        found += [f"{title}: on one side only" for title in titles.keys() ^ page.keys()]
        for title in titles.keys() & page.keys():
            expected = [titles[title]["header"], *(list(row.values()) for row in titles[title]["rows"])]
            rows = zip_longest(page[title], expected, fillvalue=[])
            found += [
                f"{title}: {text!r} on the page, {cell} in the JSON"
                for texts, cells in rows
                for text, cell in zip_longest(texts, cells, fillvalue="nothing")
                if not _says(text, cell)
            ]
    return found


def _csv(file: Path, table: Any) -> Iterator[str]:
    """A column with any interval is followed by its ends."""
    columns: dict[str, list[Any]] = {}
    for name in table["header"]:
        cells = [row[name] if isinstance(row[name], dict) else {"value": row[name]} for row in table["rows"]]
        columns[name] = [cell["value"] for cell in cells]
        if any("low" in cell for cell in cells):
            columns |= {f"{name} {end}": [cell.get(end) for cell in cells] for end in ("low", "high")}
    rows = [["" if value is None else str(value) for value in row] for row in zip(*columns.values(), strict=True)]
    with file.open(newline="") as lines:
        for found, expected in zip_longest(csv.reader(lines), [list(columns), *rows]):
            if found != expected:
                yield f"{file.name}: {found} in the CSV, {expected} in the JSON"


def _says(text: str, cell: Any) -> bool:
    """Numbers with a unit have one decimal, others some; a whole number may have none, a difference has its sign."""
    if cell is None or isinstance(cell, str):
        return text == " ".join((cell or "").split())
    if isinstance(cell, int):
        return text == f"{cell:,}"
    numbers = [cell[name] for name in ("value", "low", "high") if cell.get(name) is not None]
    written = re.findall(r"[-+]?[\d,.]+", text)
    form = "{} ({} to {})" if len(numbers) == 3 else "{}" if numbers else ""
    return form.format(*written) == text and all(map(_is_rounded, written, numbers, [cell["unit"]] * len(numbers)))


def _is_rounded(text: str, value: float, unit: str) -> bool:
    decimals = len(text.partition(".")[2])
    enough = decimals == 1 if unit else decimals > 0 or value == round(value)
    return enough and text.removeprefix("+") == f"{round(value, decimals) + 0.0:,.{decimals}f}"


def _markdown_tables(file: Path) -> Shown:
    """The tables below their headings; lines that only part groups of rows are left out."""
    found: Shown = {}
    for line in file.read_text().splitlines():
        if line.startswith("### "):
            title = _plain(line.removeprefix("### "))
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if any(cells):
                found.setdefault(title, []).append(cells)
    return found


def _plain(markdown: str) -> str:
    return unescape(re.sub(r"\\(.)", r"\1", markdown)).strip()


def _html_tables(file: Path) -> Shown:
    page = _Page()
    page.feed(file.read_text())
    return page.tables


class _Page(HTMLParser):
    """Collects the cells of all tables; what stands in a cell's inner element is its interval."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: Shown = {}
        self._text: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._rows.append([])
        elif tag in ("caption", "td", "th"):
            self._text = ""
        elif tag == "span":
            self.handle_data(" (")

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._rows = self.tables.setdefault(str(self._text), [])
        elif tag in ("td", "th"):
            self._rows[-1].append(" ".join(str(self._text).split()))
        elif tag == "span":
            self.handle_data(")")
        if tag in ("caption", "td", "th"):
            self._text = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += data
