"""Runs made by hand for `compare` and `regress`: POPE questions whose right answer is yes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.base import Completion
from tests.analysis.runs import Answered, answered, read_with, task_config, write_run

__all__ = ["MADE_BY", "TASK", "asked", "documents", "gate_run", "question", "read_gate_run"]

TASK = "df_pope_mini_random"
MADE_BY = {"packages": {"torch": "2.14"}, "processor": "one", "dtype": "float32"}


def question(
    doc_id: int,
    macro: str,
    *,
    micro: str | None = None,
    gap: float | None = 0.5,
    task: str = TASK,
    image: str | None = None,
    nlls: tuple[float, float] = (0.5, 0.4),
) -> Answered:
    """One question about an image of its own; with ``micro`` a second candidate, which is selected."""
    doc = {
        "question_id": str(doc_id),
        "image_source": image or f"image {doc_id}",
        "question": "Is it?",
        "answer": "yes",
    }
    row = answered(task, doc, macro, micro, doc_id=doc_id, image=image or f"image {doc_id}", nlls=nlls)
    trace = row.trace
    assert trace.grounding
    return replace(
        row,
        trace=replace(
            trace,
            question_digest=f"{doc_id:032x}"[::-1],
            macro=_with_gap(trace.macro, gap),
            micro=_with_gap(trace.micro, gap),
            grounding=replace(trace.grounding, response=replace(trace.grounding.response, gap=gap)),
        ),
    )


def asked(doc_id: int, text: str, **changes: Any) -> Answered:
    """A question of the real task, answered by ``text``."""
    row = question(doc_id, text, **changes)
    return replace(row, doc=documents()[doc_id])


@cache
def documents() -> list[dict[str, Any]]:
    """Of the real task, without the images."""
    path = resource_folder("tasks") / "pope" / "data" / "random.parquet"
    names = [name for name in pq.read_schema(path).names if name != "image"]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=names).to_pylist()
    return rows


def _directions(task: str) -> dict[str, bool | None]:
    return {entry["metric"]: entry.get("higher_is_better") for entry in task_config(task)["metric_list"]}


def _with_gap(completion: Completion | None, gap: float | None) -> Completion | None:
    return completion and replace(completion, gap=gap)


def gate_run(
    folder: Path, rows: Sequence[Answered], *, settings: Mapping[str, Any] | None = None, checkpoint: str = "tiny-abc"
) -> Path:
    """The files of a run that says what ran it."""
    write_run(folder, rows)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    record = results["config"]["resolved_cli_args"]["dualfocus"]
    record |= {"checkpoint": checkpoint, "environment": MADE_BY, "batch_size": 16}
    record["settings"] |= settings or {}
    results["higher_is_better"] = {task: _directions(task) for task in results["results"]}
    path.write_text(json.dumps(results))
    return folder


def read_gate_run(folder: Path, rows: Sequence[Answered]) -> Run:
    """`read_run`; the documents are those of ``rows``."""
    return read_with(folder, rows)
