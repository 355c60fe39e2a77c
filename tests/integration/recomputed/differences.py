"""Where a report differs from what its run's files say, and its pages from its own tables: a line for each place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.integration.recomputed.cells import Table, agrees
from tests.integration.recomputed.shown import csv_differences, html_tables, markdown_tables, says

__all__ = ["page_differences", "table_differences"]

Tables = Mapping[str, Mapping[str, Any]]
"""The content of the report's JSON files by name."""


def table_differences(found: Tables, expected: Mapping[str, Table]) -> list[str]:
    """Every table, column, row and number that is not the expected one; one that nobody expects is a difference too."""
    unknown = [f"{name}: not recomputed" for name in found if name not in expected]
    missing = [f"{name}: not in the report" for name in expected if name not in found]
    known = [name for name in found if name in expected]
    return [
        *unknown,
        *missing,
        *(f"{name}{line}" for name in known for line in _differences(found[name], expected[name])),
    ]


def _differences(found: Mapping[str, Any], expected: Table) -> Iterator[str]:
    if found["header"] != list(expected.header):
        yield f": columns {found['header']} in the report, {list(expected.header)} here"
    elif len(found["rows"]) != len(expected.rows):
        yield f": {len(found['rows'])} rows in the report, {len(expected.rows)} here"
    else:
        for row, cells in zip(found["rows"], expected.rows, strict=True):
            if list(row) != found["header"]:
                yield f": a row has the columns {list(row)}"
            for column, cell in zip(found["header"], cells, strict=True):
                if not agrees(row.get(column), cell):
                    yield f", {list(row.values())[:3]}, {column}: {row.get(column)} in the report, {cell} here"
    noted = [text for text in _numbers(found["title"], *found["notes"]) if text != "95"]
    if expected.noted is not None and noted != list(expected.noted):
        yield f": title and notes say {noted}, here it is {list(expected.noted)}"


def _numbers(*texts: str) -> list[str]:
    return [number for text in texts for number in re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?", text)]


def page_differences(report: Path, found: Tables) -> list[str]:
    """Cells of index.html, report.md and the CSV files that are not those of the JSON tables."""
    lines = [
        line for name, table in found.items() for line in csv_differences(report / "tables" / f"{name}.csv", table)
    ]
    for page in (html_tables(report / "index.html"), markdown_tables(report / "report.md")):
        titles = {table["title"] for name, table in found.items() if name not in DATA}
        lines += [f"{title}: on one side only" for title in titles ^ set(page)]
        for table in found.values():
            if table["title"] in page:
                lines += _page_differences(table, page[table["title"]])
    return lines


DATA = ("adaptive_curve",)
"""Tables that the pages link to and do not show."""


def _page_differences(table: Mapping[str, Any], page: list[list[str]]) -> Iterator[str]:
    header, *rows = page
    if header != table["header"] or len(rows) != len(table["rows"]):
        yield f"{table['title']}: {len(rows)} rows under {header} on the page"
        return
    for row, texts in zip(table["rows"], rows, strict=True):
        for column, text in zip(table["header"], texts, strict=True):
            if not says(text, row[column]):
                yield f"{table['title']}, {texts[:3]}, {column}: {text!r} on the page, {row[column]} in the JSON"
