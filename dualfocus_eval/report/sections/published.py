"""The paper's numbers, beside those of a run: published ones are marked, and none is filled in from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from dualfocus_eval.analysis.choices import Choice
from dualfocus_eval.analysis.measures import metric
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Section

__all__ = ["BENCHMARKS", "main_section", "published_part", "published_section", "published_tables"]

BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    "SEED-IMG": ("df_seed_img", "df_seed_img_mini"),
    "MMBench": ("df_mmbench_en_dev", "df_mmbench_en_mini"),
    "GQA*": ("df_gqa_mcq", "df_gqa_mcq_mini"),
    "TextVQA": ("df_textvqa_val_ocr", "df_textvqa_val", "textvqa_val", "df_textvqa_mini"),
}
"""The tasks behind the columns of the paper's tables 1 and 2, the first of which a run has counts."""
_OWN: tuple[Choice, ...] = ("macro", "micro", "selected")
_PUBLISHED = "published"
_UNKNOWN = "not known here"


def published_tables() -> Sequence[Mapping[str, Any]]:
    """The tables of ``reports/published.yaml``: ``table``, ``title``, ``columns`` and ``rows``."""
    return _content()["tables"]


@cache
def _content() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    text = (resource_folder("reports") / "published.yaml").read_text(encoding="utf-8")
    content: Mapping[str, Sequence[Mapping[str, Any]]] = yaml.safe_load(text)
    return content


def main_section(run: Run, tables: Sequence[int] = (1, 2)) -> Section:
    """The rows of the paper's ``tables`` in one, those of the run below them."""
    named = f"table{'s' if len(tables) > 1 else ''} {' and '.join(map(str, tables))}"
    text = (
        f"Rows marked published are the paper's ({named}), measured by its authors on the full benchmarks. "
        "The rows of this run were measured here."
    )
    found = {column: task for column, tasks in BENCHMARKS.items() if (task := _first(run, tasks))}
    if not found:
        return Section("main", "Beside the paper", text)
    sources = [table for table in published_tables() if table["table"] in tables]
    published = [_published_row(table, row) for table in sources for row in table["rows"]]
    traced = run.answers["traced"][run.answers["task"].isin([*found.values()])]
    choices = [choice for choice in (_OWN if traced.any() else ("selected",)) if choice in run.choices]
    own = [_own_row(run, choice, found) for choice in choices]
    notes = ["This run's columns: " + "; ".join(f"{column}: {task}" for column, task in found.items()) + "."]
    if len(choices) > 1 and not traced.all():
        notes.append(
            "Some questions have no trace: `selected` covers all questions, macro and micro only the traced ones."
        )
    minis = [task for task in found.values() if task.endswith("_mini")]
    if minis:
        notes.append(
            f"{', '.join(minis)}: a small embedded set of other questions; its numbers cannot be compared with "
            "published ones."
        )
    limit = (run.results.get("config") or {}).get("limit")
    if limit:
        notes.append(f"This run had --limit {limit}; published numbers are for the full benchmarks.")
    header = ("model", "LLM", "origin", *BENCHMARKS)
    table = Table("Main results (%)", header, (tuple(published), tuple(own)), tuple(notes))
    return Section("main", "Beside the paper", text, {"main": table})


def published_section() -> Section:
    """Every table of the paper, and figure 4, as far as its numbers are known here."""
    text = (
        "Published by the paper's authors, not measured here. Tables 1, 2, 3, 5 and 7 are complete. Of the other "
        f"tables, only the numbers in the paper's text are known here; the rest is marked {_UNKNOWN}."
    )
    tables = {f"published_{table['table']}": _table(table, f"Table {table['table']}") for table in published_tables()}
    tables |= {
        f"published_figure_{one['figure']}": _table(one, f"Figure {one['figure']}") for one in _content()["figures"]
    }
    return Section("published", "The paper's tables", text, tables)


def published_part(name: str) -> Section:
    """What the paper says of ``table3`` or ``figure4``, as far as it is known here; else empty."""
    whole = published_section()
    key = f"published_{name.removeprefix('table').replace('figure', 'figure_')}"
    text = f"Published by the paper's authors, not measured here. {_UNKNOWN}: the paper's text does not say it."
    return Section(whole.name, "In the paper", text, {key: whole.tables[key]} if key in whole.tables else {})


def _first(run: Run, tasks: Sequence[str]) -> str | None:
    return next((task for task in tasks if task in run.tasks and task in run.task_names), None)


def _published_row(table: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Cell, ...]:
    values = dict(zip(table["columns"], row["values"], strict=True))
    scores = [_number(values[column]) for column in BENCHMARKS]
    return (row["row"], values["LLM"], f"{_PUBLISHED}, table {table['table']}", *scores)


def _own_row(run: Run, choice: Choice, found: Mapping[str, str]) -> tuple[Cell, ...]:
    scores = [
        metric(run, task, str(run.main_metric(task)), choice)[1] if (task := found.get(column)) else None
        for column in BENCHMARKS
    ]
    return (f"{run.name}: {choice}", None, "this run", *scores)


def _table(table: Mapping[str, Any], name: str) -> Table:
    rows = tuple(
        (row["row"], *(_UNKNOWN if value is None else _number(value) for value in row["values"]), row.get("note"))
        for row in table["rows"]
    )
    noted = any(row[-1] for row in rows)
    header = ("row", *map(str, table["columns"]), *(("note",) if noted else ()))
    shown = rows if noted else tuple(row[:-1] for row in rows)
    return Table(f"{name}: {table['title']} ({_PUBLISHED})", header, (shown,))


def _number(value: Any) -> Cell:
    if value is None:
        return Number(math.nan)
    if isinstance(value, float):
        return Number(value)
    return value  # type: ignore[no-any-return]
