"""What a report shows: its tables as they stand in the JSON, CSV, Markdown and HTML files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

__all__ = ["Shown", "csv_differences", "html_tables", "markdown_tables", "read_tables", "says"]

Shown = dict[str, list[list[str]]]
"""By title: the header and the rows, as texts; an interval stands in brackets behind its value."""


def read_tables(report: Path) -> dict[str, dict[str, Any]]:
    """Every table by the name of its file, as its JSON has it."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((report / "tables").glob("*.json"))}


def csv_differences(file: Path, table: Mapping[str, Any]) -> list[str]:
    """Where the CSV is not the JSON ``table``; a column with any interval is followed by its ends."""
    cells = {name: [row[name] for row in table["rows"]] for name in table["header"]}
    columns: dict[str, list[Any]] = {}
    for name, column in cells.items():
        measured = [cell if isinstance(cell, dict) else {"value": cell} for cell in column]
        ends = ("low", "high") if any("low" in cell for cell in measured) else ()
        columns[name] = [cell["value"] for cell in measured]
        columns |= {f"{name} {end}": [cell.get(end) for cell in measured] for end in ends}
    expected = [
        list(columns),
        *(["" if value is None else str(value) for value in row] for row in zip(*columns.values(), strict=True)),
    ]
    with file.open(newline="") as lines:
        found = list(csv.reader(lines))
    pairs = zip_longest(found, expected)
    return [f"{file.name}: {one} in the CSV, {other} in the JSON" for one, other in pairs if one != other]


def says(text: str, cell: Any) -> bool:
    """Whether ``text`` is the ``cell`` of a JSON table as people read it.

    Numbers with a unit have one decimal, others some; a whole number may have none, a difference may have its sign.
    """
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


def markdown_tables(file: Path) -> Shown:
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


def html_tables(file: Path) -> Shown:
    page = _Page()
    page.feed(file.read_text())
    return page.tables


class _Page(HTMLParser):
    """Collects the cells of all tables; what stands in a cell's inner element is its interval."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: Shown = {}
        self._caption: str | None = None
        self._cell: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag == "span":
            self.handle_data(" (")

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._rows: list[list[str]] = self.tables.setdefault(str(self._caption), [])
            self._caption = None
        elif tag in ("td", "th"):
            self._rows[-1].append(" ".join(str(self._cell).split()))
            self._cell = None
        elif tag == "span":
            self.handle_data(")")

    def handle_data(self, data: str) -> None:
        if self._caption is not None:
            self._caption += data
        if self._cell is not None:
            self._cell += data
