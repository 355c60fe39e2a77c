"""The tables of a report as JSON, and where two reports differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["GOLDEN", "Tables", "differences", "read_golden", "read_tables", "write_golden"]

GOLDEN = Path(__file__).with_name("tables.json")
Tables = Mapping[str, Mapping[str, Any]]
"""The content of a report's JSON files by name."""
_OWN = ("results file", "model", "date", "lmms-eval", "git commit of lmms-eval's folder", "wall time")
"""Rows of the table ``run`` that are other ones in every run."""


def read_tables(report: Path) -> dict[str, dict[str, Any]]:
    """Every table by the name of its file, but for what differs from run to run."""
    tables = {path.stem: json.loads(path.read_text()) for path in sorted((report / "tables").glob("*.json"))}
    if "run" in tables:
        tables["run"]["rows"] = [row for row in tables["run"]["rows"] if not row["what"].startswith(_OWN)]
    for row in tables["runs"]["rows"] if "runs" in tables else ():
        row["model"] = Path(row["model"]).name
    if "official" in tables:  # lmms-eval keeps the metrics of a group in a set
        tables["official"]["rows"].sort(key=lambda row: (row["task"], row["metric"]))
    return tables


def read_golden() -> dict[str, dict[str, dict[str, Any]]]:
    """The golden tables of each report."""
    reports = json.loads(GOLDEN.read_text())
    for table in (table for tables in reports.values() for table in tables.values()):
        rows = [dict(zip(table["header"], map(_unpacked, row), strict=True)) for row in table["rows"]]
        table["rows"] = rows
    return reports


def write_golden(reports: Mapping[str, Tables]) -> None:
    """Keep the tables of ``reports``: a line for each row, a measured cell as unit, value and interval."""
    names = [f"{json.dumps(name)}: {{\n{_listed(tables)}\n}}" for name, tables in reports.items()]
    GOLDEN.write_text("{\n" + ",\n".join(names) + "\n}\n")


def _listed(tables: Tables) -> str:
    texts = []
    for name, table in tables.items():
        known = ", ".join(f"{json.dumps(part)}: {json.dumps(table[part])}" for part in ("title", "header", "notes"))
        rows = ",\n".join(f"   {json.dumps([*map(_packed, row.values())])}" for row in table["rows"])
        texts.append(f' {json.dumps(name)}: {{{known}, "rows": [\n{rows}]}}')
    return ",\n".join(texts)


_PARTS = ("unit", "value", "low", "high")


def _packed(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    parts = [cell[name] for name in _PARTS if name in cell]
    return [float(f"{part:.12g}") if isinstance(part, float) else part for part in parts]


def _unpacked(cell: Any) -> Any:
    return dict(zip(_PARTS, cell, strict=False)) if isinstance(cell, list) else cell


def differences(found: Any, golden: Any, place: str = "") -> Iterator[str]:
    """A line for each table, column, row, text and number that is not the golden one; numbers up to rounding."""
    if isinstance(golden, dict) and isinstance(found, dict):
        yield from (f"{place}/{name}: not among the golden tables" for name in found.keys() - golden.keys())
        yield from (f"{place}/{name}: missing" for name in golden.keys() - found.keys())
        for name in golden.keys() & found.keys():
            yield from differences(found[name], golden[name], f"{place}/{name}")
    elif isinstance(golden, list) and isinstance(found, list):
        if len(found) != len(golden):
            yield f"{place}: {found}, golden: {golden}"
        else:
            for number, (one, other) in enumerate(zip(found, golden, strict=True)):
                yield from differences(one, other, f"{place}/{number}")
    elif not _same(found, golden):
        yield f"{place}: {found}, golden: {golden}"


def _same(found: Any, golden: Any) -> bool:
    if isinstance(found, float) and isinstance(golden, float):
        return math.isclose(found, golden, rel_tol=1e-9, abs_tol=1e-9)
    return type(found) is type(golden) and bool(found == golden)
