"""What every way to take an answer scores: in all, per category, on POPE, beside the paper; and lmms-eval's results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Measured, Table, percent, plain
from tests.integration.recomputed.facts import main_rows
from tests.integration.recomputed.intervals import jackknife_interval, rate_interval
from tests.integration.recomputed.scoring import COUNTS, benchmark_of

__all__ = ["chosen", "divisions", "overview_tables", "score_tables"]

ROTATION = 1_000_000
"""MMBench's index of a question asked under its k-th rotation is k times this, plus its own."""
DIMENSIONS = (
    "scene_understanding", "instance_identity", "instance_attributes", "instance_location", "instances_counting",
    "spatial_relation", "instance_interaction", "visual_reasoning", "text_understanding",
)  # fmt: skip
POPE = ("accuracy", "precision", "recall", "f1", "yes_ratio")
PAPER = {
    "SEED-IMG": "df_seed_img_mini",
    "MMBench": "df_mmbench_en_mini",
    "GQA*": "df_gqa_mcq_mini",
    "TextVQA": "df_textvqa_mini",
}


def score_tables(run: Answers, published: Path) -> dict[str, Table]:
    tables = {"strategies": _strategies(run), "official": _official(run)}
    tables |= {f"categories_{task}": table for task in run.tasks if (table := _categories(run, task))}
    if pope := _pope(run):
        tables["pope"] = pope
    columns = {column: task for column, task in PAPER.items() if task in run.tasks}
    if columns:
        tables["main"] = _beside_the_paper(run, columns, published)
    return tables


def overview_tables(runs: Mapping[str, Answers]) -> dict[str, Table]:
    """Of a report of several runs, by the names of their folders in it: what each selected, on every task."""
    tasks = list(dict.fromkeys(task for run in runs.values() for task in run.tasks))
    rows = [
        [name, run.record["engine"]["pretrained"], *(_selected(run, task) for task in tasks)]
        for name, run in runs.items()
    ]
    return {"runs": Table(["run", "model", *tasks], rows)}


def _selected(run: Answers, task: str) -> Measured | None:
    if task not in run.tasks:
        return None
    return _measured(task, run.main_metric(task), chosen(run.tasks[task], "selected"))


def chosen(part: pd.DataFrame, choice: str) -> pd.DataFrame:
    """The metrics of the answers that ``choice`` takes, a row per question, with ``image`` and ``doc``."""
    taken = [row[f"{row[f'take {choice}']}_scores"] for _, row in part.iterrows()]
    return pd.DataFrame(taken, index=part.index).astype(float).join(part[["image", "doc"]])


def divisions(run: Answers, task: str) -> list[dict[str, pd.Series]]:
    """How the benchmark tells its questions apart: in each division, which questions a category has.

    Categories stand in the order of the task's metrics; one that has none or all of the questions tells nothing apart.
    """
    listed = [entry["metric"] for entry in run.results["configs"][task]["metric_list"]]
    found = []
    for level in _levels(task, run.tasks[task]["doc"]):
        members = {name: level == name for name in sorted(set(level.dropna()), key=listed.index)}
        found.append({name: each for name, each in members.items() if not each.all()})
    return found


def _levels(task: str, docs: pd.Series) -> list[pd.Series]:
    """Each document's category in every division of its benchmark."""
    by_benchmark: Mapping[str, Sequence[Callable[[Mapping[str, Any]], str | None]]] = {
        "scenes": (lambda doc: doc["level"], lambda doc: doc["kind"]),
        "seed": (lambda doc: DIMENSIONS[int(doc["question_type_id"]) - 1],),
        "mmbench": (
            lambda doc: "vanilla" if doc["index"] < ROTATION else None,
            lambda doc: _words(doc["l2-category"]),
            lambda doc: _words(doc["category"]),
        ),
        "gqa": (lambda doc: _open_or_binary(doc["types"]["structural"]), lambda doc: doc["types"]["structural"]),
        "gqa_mcq": (lambda doc: _open_or_binary(doc["question_type"]), lambda doc: doc["question_type"]),
    }
    return [docs.map(category) for category in by_benchmark.get(benchmark_of(task), ())]


def _words(category: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", category.lower()))


def _open_or_binary(structural: str) -> str:
    return "open" if structural == "query" else "binary"


def _measured(task: str, metric: str, answers: pd.DataFrame) -> Measured:
    """A metric over the questions of ``answers`` (of `chosen`), with the interval that it has."""
    statistic = _statistic(task, metric)
    if statistic is None:
        values = answers[metric if metric in answers else "score"]
        return percent(values.mean(), rate_interval(values, answers["image"]))
    return percent(statistic(answers), jackknife_interval(answers, statistic))


def _statistic(task: str, metric: str) -> Callable[[pd.DataFrame], float] | None:
    """How a metric that is no mean over its questions comes about."""
    if benchmark_of(task) == "mmbench" and metric not in ("vanilla", "score"):
        return _circular
    return partial(_detection, metric=metric) if metric in ("precision", "recall", "f1") else None


def _circular(answers: pd.DataFrame) -> float:
    """A question is right if it is under all its rotations."""
    return float(answers["score"].groupby(answers["doc"].map(lambda doc: doc["index"] % ROTATION)).min().mean())


def _detection(answers: pd.DataFrame, metric: str) -> float:
    true = answers["doc"].map(lambda doc: doc["answer"] == "yes")
    said = answers["yes_ratio"] == 1
    of = {"precision": said.sum(), "recall": true.sum(), "f1": (said.sum() + true.sum()) / 2}[metric]
    return float((said & true).sum() / of) if of else 0.0


def _strategies(run: Answers) -> Table:
    rows: list[list[Cell]] = []
    noted: list[str] = []
    for task, part in run.tasks.items():
        metric = run.main_metric(task)
        rows.append(
            [task, metric, len(part), *(_measured(task, metric, chosen(part, choice)) for choice in run.choices)]
        )
        if metric == "circular" and (missing := _incomplete(part)):
            noted.append(str(missing))
    return Table(["task", "metric", "n", *run.headings], rows, noted)


def _incomplete(part: pd.DataFrame) -> int:
    """MMBench's questions that were not asked under every rotation of their options."""
    docs = pd.DataFrame(part["doc"].tolist())
    docs = docs.assign(options=docs[list("ABCD")].notna().sum(axis=1), question=docs["index"] % ROTATION)
    asked = docs.groupby("question").agg(rows=("index", "nunique"), options=("options", "max"))
    return int((asked["rows"] < asked["options"]).sum())


def _categories(run: Answers, task: str) -> Table | None:
    answers = {choice: chosen(run.tasks[task], choice) for choice in run.choices}
    rows: list[list[Cell]] = [
        [name, int(members.sum()), *(_measured(task, name, each[members]) for each in answers.values())]
        for division in divisions(run, task)
        for name, members in division.items()
    ]
    return Table(["category", "n", *run.headings], rows) if rows else None


def _pope(run: Answers) -> Table | None:
    rows: list[list[Cell]] = []
    for task, part in run.tasks.items():
        if benchmark_of(task) == "pope":
            for choice, heading in zip(run.choices, run.headings, strict=True):
                answers = chosen(part, choice)
                rows.append([task, heading, len(part), *(_measured(task, metric, answers) for metric in POPE)])
    header = ["task", "answer", "n", "accuracy", "precision", "recall", "F1", "yes ratio"]
    return Table(header, rows) if rows else None


def _beside_the_paper(run: Answers, columns: Mapping[str, str], published: Path) -> Table:
    rows = main_rows(published, list(PAPER))
    for choice in ("macro", "micro", "selected") if run.both else ("selected",):
        scores = {
            name: _measured(task, run.main_metric(task), chosen(run.tasks[task], choice))
            for name, task in columns.items()
        }
        rows.append([f"{run.file.parent.name}: {choice}", None, "this run", *map(scores.get, PAPER)])
    limit = run.results["config"]["limit"]
    return Table(["model", "LLM", "origin", *PAPER], rows, [f"{limit}"] if limit else [])


def _official(run: Answers) -> Table:
    """lmms-eval's metrics, from 0 to 1, of the answers that the run selected; its groups are means over their tasks."""
    rows: list[list[Cell]] = []
    for task, values in run.results["results"].items():
        for name in (key.partition(",")[0] for key, value in values.items() if isinstance(value, float | int)):
            if "_stderr" not in name:
                count = run.results["n-samples"].get(task, {}).get("effective")
                rows.append([task, name, count, plain(_own_value(run, task, name))])
    return Table(["task", "metric", "questions", "value"], rows)


def _own_value(run: Answers, task: str, name: str) -> float:
    if name == "failed":
        return _failed(run, task)
    if task not in run.tasks:
        members = run.results["group_subtasks"][task]
        values = pd.Series([_own_value(run, member, name) for member in members])
        sizes = pd.Series([len(run.tasks[member]) for member in members])
        return float((values * sizes).sum() / sizes.sum() if name == "accuracy" else values.mean())
    part = run.tasks[task]
    if name in COUNTS:
        return _incomplete(part) if name == "incomplete" else chosen(part, "selected")[name].sum()
    (members,) = [level == name for level in _levels(task, part["doc"]) if name in set(level)] or [part["task"] == task]
    return _measured(task, name, chosen(part[members], "selected")).value / 100


def _failed(run: Answers, task: str) -> int:
    """Questions that failed, in a task or in all tasks below a group."""
    if task in run.tasks:
        return int(run.tasks[task]["error"].notna().sum())
    return sum(_failed(run, member) for member in run.results["group_subtasks"][task])
