"""Scores per category: SEED's dimensions, MMBench's levels, GQA's types, and whatever else a task tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_eval.analysis.categories import partitions
from dualfocus_eval.analysis.choices import Choice
from dualfocus_eval.analysis.measures import is_share, metrics_of, scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.sections.strategies import choice_notes
from dualfocus_eval.report.style import COLORS, panels

__all__ = ["category_section"]

_PLOTTED: tuple[Choice, ...] = ("macro", "micro", "selected")


def category_section(run: Run) -> Section:
    """A table for every task that has categories, and figure 4's plot of it."""
    tables, figures = {}, {}
    for task in run.task_names:
        groups = partitions(run, task)
        if not groups:
            continue
        names = [name for group in groups for name in group]
        choices = run.shown_choices_of(task)
        found = {choice: metrics_of(run, task, names, choice) for choice in choices}
        sections = tuple(tuple(_row(name, found) for name in group) for group in groups)
        header = ("category", "n", *choices.values())
        own = [name for name in names if not is_share(run, task, name)]
        notes = (*choice_notes(run, header), *scale_notes(own))
        unit = " (%)" if len(own) < len(names) else ""
        tables[f"categories_{task}"] = Table(f"{task}: categories{unit}", header, sections, notes)
        if "micro" in choices:
            figures[f"categories_{task}"] = Drawing(f"{task} by category{unit}", _drawing(run, task, groups, unit))
    text = "Scores per category, as in the paper's figure 4. Small categories have wide intervals."
    return Section("categories", "Categories", text, tables, figures)


def _row(name: str, found: Mapping[Choice, Mapping[str, tuple[int, Any]]]) -> tuple[Cell, ...]:
    return (name, max(values[name][0] for values in found.values()), *(values[name][1] for values in found.values()))


def _drawing(run: Run, task: str, groups: Sequence[Sequence[str]], unit: str) -> Any:
    names = max((group for group in groups if len(group) <= 12), key=len, default=groups[0])

    def draw() -> Any:
        figure, (axis,) = panels(1, width=max(5.0, 0.9 * len(names) + 1.5), height=3.2)
        for offset, choice in enumerate(_PLOTTED):
            values = [number for _, number in metrics_of(run, task, names, choice).values()]
            places = [place + 0.26 * (offset - 1) for place in range(len(names))]
            below = [number.value - number.low for number in values]
            above = [number.high - number.value for number in values]
            axis.bar(places, [number.value for number in values], 0.24, color=COLORS[choice], label=choice)
            axis.errorbar(
                places, [number.value for number in values], yerr=(below, above), fmt="none", ecolor="#1b1f24",
                elinewidth=0.7,
            )  # fmt: skip
        labels = [figure_text(name.replace("_", " ")).replace(" ", "\n", 1) for name in names]
        axis.set_xticks(range(len(names)), labels, fontsize=7)
        if unit:
            axis.set_ylabel("%")
            axis.set_ylim(0, 105)
        axis.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return figure

    return draw
