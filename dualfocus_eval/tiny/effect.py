"""What two passes are worth on the embedded benchmarks: scores per kind of question, differences, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, heading, rule_choice, rule_notes, scores_of
from dualfocus_eval.analysis.measures import metric, points, rate
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.sections.boxes import truth_overlap
from dualfocus_eval.tiny.scenes.questions import DETAIL_KINDS, KINDS, NEGATIVES

__all__ = [
    "POPE",
    "SCENES",
    "box_table",
    "difference_table",
    "effect_tables",
    "run_table",
    "score_table",
    "summary_table",
]

SCENES = "df_scenes_mini"
POPE = tuple(f"df_pope_mini_{split}" for split in NEGATIVES)
_LEVELS = {"detail": "details", "global": "global", "accuracy": "all"}
"""How the tables call the levels of questions, which are metrics of the task."""
_INTERVALS = "In brackets: 95% interval, clustered by image"


def effect_tables(run: Run) -> dict[str, Table]:
    """Every table, by the name of the place in a page that it fills."""
    return {
        "summary": summary_table(run),
        "scores": score_table(run),
        "differences": difference_table(run),
        "boxes": box_table(run),
        "run": run_table(run),
    }


def summary_table(run: Run) -> Table:
    """One pass, two passes and their bound, by level of question: what the README shows."""
    shown: dict[str, Choice] = {"one pass (macro)": "macro", "two passes (selected)": "selected", "oracle": "oracle"}
    rows: list[tuple[Cell, ...]] = []
    for level, label in _LEVELS.items():
        found = [metric(run, SCENES, level, choice) for choice in shown.values()]
        rows.append((label, found[0][0], *(number for _, number in found)))
    return Table("Percent right", ("questions", "n", *shown), (tuple(rows),), ())


def score_table(run: Run) -> Table:
    """Percent right by kind and level of question, and POPE's F1, for every choice of the answer."""
    shown = [choice for choice in run.choices if choice != "selected"]

    def row(task: str, name: str, label: str, *, interval: bool) -> tuple[Cell, ...]:
        found = [metric(run, task, name, choice) for choice in shown]
        numbers = [number if interval else Number(number.value, unit="%") for _, number in found]
        return (label, max(n for n, _ in found), *numbers)

    deciding = run.settings["selection"]
    return Table(
        title="Scores: % right; for POPE, F1",
        header=("question", "n", *map(heading, shown)),
        sections=(
            tuple(row(SCENES, kind, kind, interval=False) for kind in KINDS),
            tuple(row(SCENES, level, label, interval=True) for level, label in _LEVELS.items()),
            tuple(row(task, "f1", f"F1 {task.rpartition('_')[2]}", interval=True) for task in POPE),
        ),
        notes=(
            f"{_INTERVALS}; for F1 by a jackknife over groups of images. Details are {', '.join(DETAIL_KINDS)}; "
            "global covers the rest. The deciding rule, from the "
            f"{run.record['settings_from']['selection'] if run.record else ''}: {deciding}. Without a usable box, "
            "a question counts in the column micro with its macro answer. Oracle: either candidate is right.",
            *rule_notes(run.rules),
        ),
    )


def difference_table(run: Run) -> Table:
    """The differences that the method is judged by, question by question."""
    scenes = run.of(SCENES)
    details = scenes[_kind_is(run, DETAIL_KINDS)]
    rule = run.settings["selection"]
    selected = rule_choice(rule)
    rows = (
        _difference("details: micro - macro", details, "micro", "macro"),
        _difference(f"details: {rule} - macro", details, selected, "macro"),
        _difference(f"all: {rule} - macro", scenes, selected, "macro"),
        _difference(f"all: {rule} - micro", scenes, selected, "micro"),
    )
    return Table(
        title="Differences (points)",
        header=("difference", "n", "images", "points"),
        sections=(rows,),
        notes=("Paired: both answers to a question come from one run. " + _INTERVALS + ".",),
    )


def box_table(run: Run) -> Table:
    """How well the boxes of detail questions are found."""
    scenes = run.of(SCENES)
    rows = [_boxes(kind, scenes[_kind_is(run, [kind])]) for kind in DETAIL_KINDS]
    return Table(
        title="Boxes of detail questions",
        header=("question", "n", "parsed %", "mean IoU", "IoU > 0.5 %"),
        sections=(tuple(rows), (_boxes("details", scenes[_kind_is(run, DETAIL_KINDS)]),)),
        notes=("IoU with the box of the object in question; an unusable box counts as 0. " + _INTERVALS + ".",),
    )


def run_table(run: Run) -> Table:
    """What ran, and what it cost."""
    record = run.record
    assert record
    summary = record["summary"]
    failed = sum(summary["failures"].values())
    earlier = f", {summary['resumed']:,} of them answered by an earlier run" if summary["resumed"] else ""
    rows: tuple[tuple[Cell, ...], ...] = (
        ("checkpoint", Path(record["engine"]["pretrained"]).name),
        ("questions", f"{len(run.answers):,}{earlier}"),
        ("images", run.answers["cluster"].nunique()),
        ("failed", failed),
        ("without a usable box (macro answers)", sum(summary["fallbacks"].values())),
        ("deciding rule", f"{record['settings']['selection']} (from: {record['settings_from']['selection']})"),
        ("wall time", f"{run.seconds:.0f} s"),
    )
    return Table(title="Run", header=("what", "value"), sections=(rows,))


def _kind_is(run: Run, kinds: Sequence[str]) -> np.ndarray:
    """Which of the scenes' questions count in the metric of one of these kinds."""
    columns, counted = run.columns(SCENES, "selected"), np.zeros(len(run.of(SCENES)), dtype=bool)
    for kind in kinds:
        counted[columns[kind][0] if kind in columns else []] = True
    return counted


def _difference(name: str, rows: pd.DataFrame, better: Choice, than: Choice) -> tuple[Cell, ...]:
    found = points(scores_of(rows, than), scores_of(rows, better), rows["cluster"])
    return (name, len(rows), rows["cluster"].nunique(), found)


def _boxes(name: str, rows: pd.DataFrame) -> tuple[Cell, ...]:
    overlaps = truth_overlap(rows)
    parsed, mean, hits = (
        rate(values, rows["cluster"]) for values in (rows["box_x1"].notna(), overlaps, overlaps > 0.5)
    )
    share = Number(mean.value / 100, mean.low / 100, mean.high / 100, decimals=2)
    return (name, len(rows), Number(parsed.value, unit="%"), share, Number(hits.value, unit="%"))
