"""What two passes are worth on the embedded benchmarks: scores per kind of question, differences, boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.data.scenes.questions import DETAIL_KINDS, KINDS, NEGATIVES
from dualfocus_eval.method.boxes import Box, iou
from dualfocus_eval.report.answers import CHOICES, Choice, RunAnswers, ScoredAnswer, rule_choice
from dualfocus_eval.report.intervals import RESAMPLES, Estimate, aggregate_of, mean_of
from dualfocus_eval.report.tables import Table

__all__ = ["POPE", "SCENES", "box_iou", "box_table", "difference_table", "effect_tables", "run_table", "score_table"]

SCENES = "df_scenes_mini"
POPE = tuple(f"df_pope_mini_{split}" for split in NEGATIVES)

_INTERVALS = "± is a 95% interval, clustered by image: lmms-eval's clustered standard error, normal approximation"


def effect_tables(run: RunAnswers) -> dict[str, Table]:
    """Every table, by the name of the place in a page that it fills."""
    return {
        "scores": score_table(run),
        "differences": difference_table(run),
        "boxes": box_table(run.of(SCENES)),
        "run": run_table(run),
    }


def score_table(run: RunAnswers) -> Table:
    """Per cent right by kind and level of question, and POPE's F1, for every choice of the answer."""
    scenes = run.of(SCENES)
    kinds = [_accuracies(kind, [a for a in scenes if a.doc["kind"] == kind], intervals=False) for kind in KINDS]
    levels = [
        _accuracies("details", [a for a in scenes if a.doc["level"] == "detail"], intervals=True),
        _accuracies("global", [a for a in scenes if a.doc["level"] == "global"], intervals=True),
        _accuracies("all", scenes, intervals=True),
    ]
    pope = [_f1(f"F1 {task.rpartition('_')[2]}", run.of(task), run.tasks[task]) for task in POPE]
    deciding = run.record["settings"]["selection"]
    return Table(
        title="Scores: % right; for POPE, F1",
        header=("question", "n", *CHOICES),
        sections=(tuple(kinds), tuple(levels), tuple(pope)),
        notes=(
            f"{_INTERVALS}; for F1 the standard error is of {RESAMPLES:,} bootstrap draws of whole images. Details are "
            f"{', '.join(DETAIL_KINDS)}; global is the rest. The rule that decides, named by the "
            f"{run.record['settings_from']['selection']}: {deciding}. A question without a usable box counts in the "
            "column micro with its macro answer. Oracle: either candidate is right.",
        ),
    )


def difference_table(run: RunAnswers) -> Table:
    """The differences that the method is judged by, question by question."""
    scenes = run.of(SCENES)
    details = [answer for answer in scenes if answer.doc["level"] == "detail"]
    selected = rule_choice(run.record["settings"]["selection"])
    rows = (
        _difference("details: micro - macro", details, "micro", "macro"),
        _difference(f"details: {selected} - macro", details, selected, "macro"),
        _difference(f"all: {selected} - macro", scenes, selected, "macro"),
        _difference(f"all: {selected} - micro", scenes, selected, "micro"),
    )
    return Table(
        title="Differences (points)",
        header=("difference", "n", "images", "points", "95% interval"),
        sections=(rows,),
        notes=("Paired: both answers to a question come from one run. " + _INTERVALS + ".",),
    )


def box_table(scenes: Sequence[ScoredAnswer]) -> Table:
    """How well the boxes of detail questions are found."""
    details = [answer for answer in scenes if answer.doc["level"] == "detail"]
    rows = [_boxes(kind, [answer for answer in details if answer.doc["kind"] == kind]) for kind in DETAIL_KINDS]
    return Table(
        title="Boxes of detail questions",
        header=("question", "n", "parsed %", "mean IoU", "IoU > 0.5 %"),
        sections=(tuple(rows), (_boxes("details", details),)),
        notes=(
            "IoU with the box of the object that the question is about; a text without a usable box counts as 0. "
            + _INTERVALS
            + ".",
        ),
    )


def run_table(run: RunAnswers) -> Table:
    """What ran, and what it cost."""
    record, summary = run.record, run.record["summary"]
    failed = sum(summary["failures"].values())
    earlier = f", {summary['resumed']:,} of them answered by an earlier run" if summary["resumed"] else ""
    rows = (
        ("checkpoint", Path(record["engine"]["pretrained"]).name),
        ("questions", f"{len(run.answers):,}{earlier}"),
        ("images", f"{len({answer.cluster for answer in run.answers}):,}"),
        ("failed", f"{failed}"),
        ("without a usable box (macro answers)", f"{sum(summary['fallbacks'].values()):,}"),
        ("deciding rule", f"{record['settings']['selection']} (from: {record['settings_from']['selection']})"),
        ("wall time", f"{run.seconds:.0f} s"),
    )
    return Table(title="Run", header=("what", "value"), sections=(rows,))


def box_iou(answer: ScoredAnswer) -> float:
    """Overlap of the model's box with the document's ``box`` (pixels); 0 without a usable box."""
    grounding = answer.trace.grounding
    if grounding is None or grounding.box is None:
        return 0.0
    width, height = answer.trace.images[0].width, answer.trace.images[0].height
    x1, y1, x2, y2 = answer.doc["box"]
    return iou(grounding.box, Box(x1 / width, y1 / height, x2 / width, y2 / height))


def _accuracies(name: str, answers: Sequence[ScoredAnswer], *, intervals: bool) -> tuple[str, ...]:
    estimates = [_mean(answers, [answer.score(choice) for answer in answers]) for choice in CHOICES]
    return (name, f"{len(answers):,}", *(_percent(estimate, interval=intervals) for estimate in estimates))


def _f1(name: str, answers: Sequence[ScoredAnswer], task: Any) -> tuple[str, ...]:
    clusters, aggregate = [answer.cluster for answer in answers], task.aggregation()["f1"]
    estimates = [
        aggregate_of([answer.metrics[choice]["f1"] for answer in answers], clusters, aggregate) for choice in CHOICES
    ]
    return (name, f"{len(answers):,}", *(_percent(estimate, interval=True) for estimate in estimates))


def _difference(name: str, answers: Sequence[ScoredAnswer], better: Choice, than: Choice) -> tuple[str, ...]:
    images = f"{len({answer.cluster for answer in answers}):,}"
    found = _mean(answers, [answer.score(better) - answer.score(than) for answer in answers])
    points = "" if math.isnan(found.value) else f"{100 * found.value:+.1f}"
    interval = "" if math.isnan(found.margin) else f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return (name, f"{len(answers):,}", images, points, interval)


def _boxes(name: str, answers: Sequence[ScoredAnswer]) -> tuple[str, ...]:
    overlaps = [box_iou(answer) for answer in answers]
    parsed = _mean(answers, [bool(answer.trace.grounding and answer.trace.grounding.box) for answer in answers])
    overlap, hits = _mean(answers, overlaps), _mean(answers, [value > 0.5 for value in overlaps])
    mean = "" if math.isnan(overlap.value) else f"{overlap.value:.2f}{_margin(overlap.margin, 2)}"
    return (name, f"{len(answers):,}", _percent(parsed), mean, _percent(hits))


def _mean(answers: Sequence[ScoredAnswer], values: Sequence[float]) -> Estimate:
    return mean_of(values, [answer.cluster for answer in answers])


def _percent(estimate: Estimate, *, interval: bool = False) -> str:
    if math.isnan(estimate.value):
        return ""
    return f"{100 * estimate.value:.1f}" + (_margin(100 * estimate.margin, 1) if interval else "")


def _margin(margin: float, decimals: int) -> str:
    return "" if math.isnan(margin) else f"±{margin:.{decimals}f}"
