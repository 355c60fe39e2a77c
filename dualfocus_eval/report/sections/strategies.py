"""What each pathway, each selection rule and the oracle are worth on each task (table 3), POPE's splits (table 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dualfocus_eval.analysis.choices import Choice, rule_notes
from dualfocus_eval.analysis.measures import is_share, metric, metrics_of, scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.scoring import UNSCORED_METRIC
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.style import COLORS, panels

__all__ = ["INTERVALS", "STAR", "choice_notes", "official_table", "pope_section", "strategy_section"]

_POPE = ("accuracy", "precision", "recall", "f1", "yes_ratio")
_PLOTTED: tuple[Choice, ...] = ("macro", "micro", "selected", "oracle")
INTERVALS = "In brackets: 95% interval, clustered by image."
STAR = "* the rule that decided in this run."


def strategy_section(run: Run) -> Section:
    """Each task's main metric under every choice."""
    names = [name for name in run.task_names if run.main_metric(name)]
    text = (
        "Each task's main metric, by its own scoring, for every way to choose the answer. All columns cover the "
        "same questions and candidates of one run. micro: a question without a usable box counts with its macro "
        "answer. oracle: the better of both candidates, an upper bound."
    )
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        main = str(run.main_metric(name))
        found = [metric(run, name, main, choice) for choice in run.shown_choices]
        shown = f"{name} ({run.failures[name]} FAILED)" if name in run.failures else name
        rows.append((shown, main, max(n for n, _ in found), *(number for _, number in found)))
    header = ("task", "metric", "n", *run.shown_choices.values())
    shares = [name for name in names if is_share(run, name, str(run.main_metric(name)))]
    own = scale_notes([name for name in names if name not in shares])
    notes = (*choice_notes(run, header), *rule_notes(run.rules), *own, *_rotations(run, names), *_unloaded(run, names))
    tables = (
        {"strategies": Table("Strategies (%)" if shares or not names else "Strategies", header, (tuple(rows),), notes)}
        if rows
        else {}
    )
    figures = {}
    drawn = [name for name in shares if name in run.tasks]
    if drawn and "oracle" in run.choices:
        caption = (
            "Each task's main metric (%) under macro, micro, the run's selection, and the oracle, with 95% intervals."
        )
        figures["strategies"] = Drawing(caption, lambda: _draw(run, drawn))
    return Section("strategies", "Strategies", text, tables, figures)


def _rotations(run: Run, names: list[str]) -> list[str]:
    """What n is where several rows, one per rotation of the options, make a question; and whether some are missing."""
    notes = []
    for name in (name for name in names if run.main_metric(name) == "circular"):
        incomplete = metric(run, name, "incomplete", "selected")[1].value
        missing = f"; without all rotations, which inflates the score: {incomplete:.0f}" if incomplete > 0 else ""
        notes.append(f"{name}: n counts rows; a question has one row per rotation of its options{missing}.")
    return notes


def _unloaded(run: Run, names: list[str]) -> list[str]:
    unloaded = ", ".join(name for name in names if name not in run.tasks)
    note = f"Cannot be scored again here; shown is lmms-eval's own score of the selected answers: {unloaded}."
    return [note] if unloaded else []


def official_table(run: Run) -> Table:
    """lmms-eval's own results as they stand in its file: every metric of every task and group."""
    rows: list[tuple[Cell, ...]] = []
    for task, values in run.results["results"].items():
        for name, value in values.items():
            plain, _, _ = name.partition(",")
            if isinstance(value, int | float) and "_stderr" not in name and plain != UNSCORED_METRIC:
                count = (run.results.get("n-samples") or {}).get(task, {}).get("effective")
                rows.append((task, plain, count, Number(float(value), decimals=0 if isinstance(value, int) else 4)))
    return Table("Results as lmms-eval reports them", ("task", "metric", "questions", "value"), (tuple(rows),))


def pope_section(run: Run) -> Section:
    """Table 4 for every task that is scored as POPE is."""
    tasks = [name for name in run.task_names if name in run.tasks and set(_POPE) <= set(run.tasks[name].aggregation())]
    groups = []
    for name in tasks:
        rows: list[tuple[Cell, ...]] = []
        for choice, heading in run.shown_choices_of(name).items():
            found = metrics_of(run, name, _POPE, choice)
            rows.append((name, heading, found["accuracy"][0], *(found[metric][1] for metric in _POPE)))
        groups.append(tuple(rows))
    header = ("task", "answer", "n", "accuracy", "precision", "recall", "F1", "yes ratio")
    notes = (
        *choice_notes(run, run.shown_choices.values()),
        "Intervals of precision, recall and F1 come from a jackknife over groups of images.",
        "The yes ratio is that of the predictions.",
    )
    tables = {"pope": Table("POPE (%)", header, tuple(groups), notes)} if groups else {}
    return Section("pope", "POPE", "Hallucination by split, as in the paper's table 4.", tables)


def choice_notes(run: Run, headings: Iterable[str]) -> tuple[str, ...]:
    """What the reader must know of choices under these headings."""
    partial = len(run.choices) > 1 and not run.answers["traced"].all()
    only = "Some questions have no trace: `selected` and n cover all questions, the other choices only the traced ones."
    intervals = f"{INTERVALS} {STAR}" if any("*" in heading for heading in headings) else INTERVALS
    return (intervals, only) if partial else (intervals,)


def _draw(run: Run, names: list[str]) -> Any:
    figure, (axis,) = panels(1, width=8.0, height=0.8 + 0.42 * len(names))
    for place, name in enumerate(names):
        for offset, choice in enumerate(_PLOTTED):
            _, number = metric(run, name, str(run.main_metric(name)), choice)
            height = place + 0.16 * (offset - 1.5)
            axis.plot([number.low, number.high], [height] * 2, color=COLORS[choice], linewidth=1.4)
            label = choice if not place else None
            axis.plot(number.value, height, "o", color=COLORS[choice], markersize=4.5, label=label)
    axis.set_yticks(range(len(names)), [*map(figure_text, names)])
    axis.invert_yaxis()
    axis.set_xlabel("%")
    axis.grid(axis="x", color="#e6e8eb", linewidth=0.6)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
