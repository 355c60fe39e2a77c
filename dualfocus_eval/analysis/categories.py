"""The categories of a task's questions.

A category is a metric that only some of a task's questions count in. Categories that share no question stand together.
"""

from __future__ import annotations

from dualfocus_eval.analysis.runs import Run

__all__ = ["categories_of", "partitions"]


def partitions(run: Run, task: str) -> list[list[str]]:
    """The task's categories in the order of its YAML, in groups within which no two share a question."""
    listed = [str(entry["metric"]) for entry in run.results.get("configs", {}).get(task, {}).get("metric_list") or ()]
    columns = run.columns(task, "selected")
    members = {name: set(columns[name][0]) for name in listed if name in columns}
    scored = len(set().union(*(places for places, _ in columns.values())))
    groups: list[list[str]] = []
    taken: set[int] = set()
    for name, questions in members.items():
        if not 0 < len(questions) < scored:
            continue
        if not groups or questions & taken:
            groups.append([])
            taken = set()
        groups[-1].append(name)
        taken |= questions
    return groups


def categories_of(run: Run, task: str) -> list[tuple[str, ...]]:
    """The categories of each of the task's questions, in the order of its rows and of `partitions`."""
    found: list[list[str]] = [[] for _ in range(len(run.of(task)))]
    columns = run.columns(task, "selected")
    for group in partitions(run, task):
        for name in group:
            for place in columns[name][0]:
                found[place].append(name)
    return [tuple(names) for names in found]
