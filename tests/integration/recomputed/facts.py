"""What a report says without computing: the run's identity and settings, and the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Table, plain

__all__ = ["fact_tables", "main_rows", "published_tables"]


def fact_tables(run: Answers) -> dict[str, Table]:
    results, config, record = run.results, run.results["config"], run.record
    facts: dict[str, Cell] = {
        "results file": run.file.name,
        "model": f"dualfocus {record['engine']['pretrained']}",
        "date": results["date"],
        "lmms-eval": record["environment"]["packages"]["lmms-eval"],
        "git commit of the folder it ran in": results["lmms_eval_version"],
        "tasks": ", ".join(run.tasks),
        "questions": len(run.questions),
        "images": run.questions["image"].nunique(),
        "with a trace": len(run.questions),
        "failed": int(run.questions["error"].notna().sum()),
        "wall time, model loading included": f"{float(results['total_evaluation_time_seconds']):.0f} s",
    }
    if limit := config["limit"]:
        facts["limit"] = f"{limit}: only the first questions of each task, which flatters MMBench"
    settings = [[name, str(value), record["settings_from"][name]] for name, value in record["settings"].items()]
    return {
        "run": Table(["what", "value"], [list(fact) for fact in facts.items()]),
        "settings": Table(["setting", "value", "from"], settings),
    }


def published_tables(file: Path) -> dict[str, Table]:
    """The tables of the paper, and figure 4: unknown values say so."""
    content = yaml.safe_load(file.read_text())
    found = {f"published_{table['table']}": table for table in content["tables"]}
    found |= {f"published_figure_{one['figure']}": one for one in content["figures"]}
    return {name: _published(table) for name, table in found.items()}


def main_rows(file: Path, columns: Sequence[str]) -> list[list[Cell]]:
    """Tables 1 and 2 of the paper as one: model, LLM, origin and the scores."""
    rows: list[list[Cell]] = []
    for table in yaml.safe_load(file.read_text())["tables"][:2]:
        for row in table["rows"]:
            values = dict(zip(table["columns"], row["values"], strict=True))
            scores = [_number(values[name]) for name in columns]
            rows.append([row["row"], values["LLM"], f"published, table {table['table']}", *scores])
    return rows


def _published(table: Mapping[str, Any]) -> Table:
    noted = ["note"] if any("note" in row for row in table["rows"]) else []
    rows = [
        [row["row"], *("not known here" if value is None else _number(value) for value in row["values"])]
        + [row.get(name) for name in noted]
        for row in table["rows"]
    ]
    return Table(["row", *table["columns"], *noted], rows, None)


def _number(value: Any) -> Cell:
    """As it is printed; whole numbers and marks are no measured values."""
    return plain(value) if isinstance(value, float) else value
