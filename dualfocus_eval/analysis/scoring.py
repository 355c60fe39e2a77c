"""A task's own scoring, applied to texts that lmms-eval did not score: the other candidate of every question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dualfocus_eval.common.errors import first_line
from dualfocus_eval.common.numbers import LARGEST
from dualfocus_eval.harness.outcomes import FAILED_METRIC

__all__ = [
    "UNSCORED_METRIC", "document_reader", "included_folders", "load_tasks", "main_metric", "own_scoring",
    "predicted_only", "run_argument", "score_of",
]  # fmt: skip


_BLOCK = 512
UNSCORED_METRIC = "bypass"
"""lmms-eval's only metric under ``--predict_only``, whose value says nothing."""


def load_tasks(names: Sequence[str], include_path: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """lmms-eval's task objects by name, and why the others cannot be loaded (unknown here, or without their data).

    ``include_path`` are the folders of the user's own tasks (`included_folders`).
    """
    from lmms_eval.tasks import get_task_dict
    from loguru import logger

    from dualfocus_eval.harness.task_index import task_manager

    logger.disable("lmms_eval")
    tasks, faults = {}, {}
    try:
        manager = task_manager(names, include_path)
    except Exception as error:  # a YAML of the user's folder that nothing can read
        manager = task_manager(names)
        faults = {name: f"--include_path: {first_line(error)}" for name in names if name not in manager.task_index}
    for name in [name for name in names if name not in faults]:
        try:
            tasks[name] = get_task_dict([name], manager)[name]
        except Exception as error:  # whatever a task's loading raises costs this task's scores, never the report
            faults[name] = first_line(error)
    logger.enable("lmms_eval")
    return tasks, faults


def included_folders(results: Mapping[str, Any], place: Path) -> tuple[list[str], list[str]]:
    """The folders of the run's ``--include_path`` that tasks can be loaded from, and why others cannot.

    Loading a task runs code of its folder. A folder inside ``place``, where the results are, came with them; its code
    is not run.
    """
    given = run_argument(results, "include_path") or ()
    folders = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    usable, why = [], []
    for folder in map(str, filter(None, folders)):
        if not Path(folder).is_dir():
            why.append(f"{folder} of --include_path is not there")
        elif Path(folder).resolve().is_relative_to(place.resolve()):
            why.append(f"{folder} of --include_path lies among the results, whose code is not run")
        else:
            usable.append(folder)
    return usable, why


def document_reader(task: Any) -> Callable[[int], Mapping[str, Any]]:
    """A function that gives the task's document of a number, without its images.

    A dataset is read in blocks, since each access costs more than its rows; documents are best asked for in order.
    """
    docs = task.eval_docs_no_media
    if not hasattr(docs, "column_names"):
        return docs.__getitem__  # type: ignore[no-any-return]
    held: dict[int, list[dict[str, Any]]] = {}

    def read(doc_id: int) -> Mapping[str, Any]:
        block = doc_id // _BLOCK
        if block not in held:
            columns = docs[block * _BLOCK : (block + 1) * _BLOCK]
            held.clear()
            held[block] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return held[block][doc_id % _BLOCK]

    return read


def own_scoring(task: Any, reasoning_tags: Any = None) -> Callable[[Mapping[str, Any], str], Mapping[str, Any]]:
    """A function that scores a text as the answer to a document, as lmms-eval does: filtered, stripped of reasoning
    (``reasoning_tags`` is the run's flag), and handed to the task's ``process_results``. What that raises is raised.
    """
    from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags

    ensemble = task._filters[0]
    tags = parse_reasoning_tags_config(reasoning_tags, getattr(task.config, "reasoning_tags", None))
    method = task.process_results
    # lmms-eval tries again four times, two seconds apart: good for judges on a network, here the error stays the same.
    once = partial(method.__wrapped__, task) if hasattr(method, "retry") else method

    def score(doc: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        instance = SimpleNamespace(resps=[text.strip()], filtered_resps={})
        ensemble.apply([instance], [doc])
        response = instance.filtered_resps[ensemble.name]
        if tags is not None and isinstance(response, str):
            response = strip_reasoning_tags(response, tags)
        metrics: Mapping[str, Any] = once(doc, [response])
        return metrics

    return score


def main_metric(results: Mapping[str, Any], task: str) -> str | None:
    """The metric that a task is known by: the first of its list that has a number in ``results``; None without any.

    The number of failed questions, which our model adds to every task's, is no score, nor is what stands in place of
    one with --predict_only.
    """
    values = results.get("results", {}).get(task, {})
    listed = [str(metric["metric"]) for metric in results.get("configs", {}).get(task, {}).get("metric_list") or ()]
    numbers = [name for name, value in values.items() if _is_number(value) and "_stderr" not in name]
    found = [plain for name in numbers if (plain := name.partition(",")[0]) not in (FAILED_METRIC, UNSCORED_METRIC)]
    return next((name for name in [*listed, *found] if name in found), None)


def predicted_only(results: Mapping[str, Any]) -> bool:
    """Whether the run was made with ``--predict_only``, so that it has answers and no scores."""
    return any(
        name.partition(",")[0] == UNSCORED_METRIC for values in results.get("results", {}).values() for name in values
    )


def run_argument(results: Mapping[str, Any], name: str) -> Any:
    """One argument of the run; lmms-eval writes the whole command line into its results."""
    arguments = results["config"].get("resolved_cli_args")
    return arguments.get(name) if isinstance(arguments, dict) else None


def score_of(metrics: Mapping[str, Any], main: str | None) -> float:
    """How right one answer is, from 0 to 1: the task's ``score``, else its main metric; NaN where neither says so."""
    for name in ("score", main):
        value = metrics.get(name) if name else None
        if isinstance(value, Mapping):
            value = value.get("score")
        if _is_number(value):
            return float(value)  # type: ignore[arg-type]
    return math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST
