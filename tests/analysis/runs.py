"""Runs made by hand: the files of a run with chosen answers, read back and scored by the tasks' real functions."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from lmms_eval.filters import build_filter_ensemble
from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.analysis import reading
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.method.boxes import BoxOutcome
from dualfocus_eval.method.selection import RULES, reselect
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import Decision, Grounding, ImageInfo, Pathway, Trace
from tests.scripted_engine import completion

SIZE = (400, 200)
SETTINGS_KEY = "these settings"


@cache
def task_config(name: str) -> dict[str, Any]:
    path: Path = next(resource_folder("tasks").rglob(f"{name}.yaml"))
    config: dict[str, Any] = load_yaml_config(str(path), mode="full")
    return config


@dataclass(frozen=True)
class Answered:
    """One question with its document and its trace."""

    task: str
    doc_id: int
    doc: Mapping[str, Any]
    trace: Trace

    @property
    def sample(self) -> dict[str, Any]:
        """The line that lmms-eval writes for it."""
        metrics = task_config(self.task)["process_results"](self.doc, [self.trace.text.strip()])
        answer = {"target": str(self.doc["answer"]), "filtered_resps": self.trace.text.strip(), "input": "Question?"}
        return {"doc_id": self.doc_id, **answer, **metrics}


def answered(
    task: str,
    doc: dict[str, Any],
    macro: str,
    micro: str | None,
    *,
    doc_id: int = 0,
    image: str = "image",
    picks: dict[str, Pathway] | None = None,
    rule: str = "own_context",
    box: Box | None = None,
    nlls: tuple[float, float] = (0.5, 0.4),
) -> Answered:
    """One question; ``picks`` names what each rule selects (default: micro wherever there is one)."""
    box = box or Box(0.1, 0.1, 0.3, 0.5)
    picks = picks or dict.fromkeys(RULES.items, "micro")
    two = micro is not None
    trace = Trace(
        key=f"{task}/{doc_id}",
        question_digest="digest",
        settings_key=SETTINGS_KEY,
        kind="short",
        images=(ImageInfo(image, *SIZE),),
        macro=completion(macro, nlls[0]),
        micro=completion(micro, nlls[1]) if micro is not None else None,
        grounding=Grounding(completion("box"), BoxOutcome.OK, box, Crop(20, 10, 140, 130))
        if two
        else Grounding(completion("nowhere"), BoxOutcome.UNPARSABLE),
        picks=picks if two else {},
        selected=picks[rule] if two else "macro",
        decision=Decision.NLL if two else Decision.ONLY_CANDIDATE,
        fallback=None if two else "unparsable",
    )
    return Answered(task, doc_id, doc, trace)


def scene(number: int, answer: str, **fields: Any) -> dict[str, Any]:
    """A document of df_scenes_mini, about a mark unless ``fields`` says otherwise."""
    return {
        "question_id": f"scene-{number:03}", "image_id": "i", "question": "What color is the label on the mug?",
        "answer": answer, "kind": "mark_color", "level": "detail", "box": [40.0, 20.0, 120.0, 100.0],
    } | fields  # fmt: skip


def write_run(folder: Path, answers: Sequence[Answered], rule: str = "own_context", **engine: Any) -> Path:
    """The files of a run: results, a sample file per task, traces."""
    traces = folder / "traces"
    traces.mkdir(parents=True)
    record = {
        "settings": asdict(Settings(selection=rule)),
        "settings_from": {"selection": "recipe"},
        "settings_key": SETTINGS_KEY,
        "traces": str(traces),
        "engine": {"pretrained": "some/checkpoint", "revision": None, "image_aspect": "checkpoint"} | engine,
        "summary": {"failures": _failures(answers), "fallbacks": {"unparsable": 1}, "resumed": 0},
        "tasks": {task: _counts([answer for answer in answers if answer.task == task]) for task in _names(answers)},
    }
    tasks = _names(answers)
    chosen = [Answered(a.task, a.doc_id, a.doc, reselect(a.trace, rule)) for a in answers]
    results: dict[str, Any] = {
        "results": {task: {"accuracy,none": 0.5} for task in tasks},
        "configs": {task: {"metric_list": _metric_names(task), "cluster_key": "image_id"} for task in tasks},
        "n-samples": {task: {"effective": sum(answer.task == task for answer in answers)} for task in tasks},
        "config": {"resolved_cli_args": {"dualfocus": record}},
        "total_evaluation_time_seconds": "12.3",
    }
    (folder / "1_results.json").write_text(json.dumps(results))
    (traces / "traces.rank0000.jsonl").write_text("".join(answer.trace.to_json() + "\n" for answer in chosen))
    for task in tasks:
        lines = [json.dumps(answer.sample) + "\n" for answer in chosen if answer.task == task]
        (folder / f"1_samples_{task}.jsonl").write_text("".join(lines))
    return folder


def failing(answer: Answered, kind: str = "bad_image") -> Answered:
    """The same question, failed before it was answered."""
    trace = replace(
        answer.trace, images=(), macro=None, micro=None, grounding=None, picks={}, selected=None, decision=None,
        fallback=None, error=Failure(kind, "no image"),
    )  # fmt: skip
    return replace(answer, trace=trace)


def _failures(answers: Sequence[Answered]) -> Counter[str]:
    return Counter(answer.trace.error.kind for answer in answers if answer.trace.error)


def _counts(answers: Sequence[Answered]) -> dict[str, Any]:
    return {"questions": len(answers), "failures": _failures(answers)}


def read_with(folder: Path, answers: Sequence[Answered], calibration: Calibration | None = None) -> Run:
    """`read_run`, the documents being those of ``answers``."""
    with documents_of(answers):
        return reading.read_run(folder, calibration=calibration)


@contextmanager
def documents_of(answers: Sequence[Answered]) -> Iterator[None]:
    """Runs are read with these documents."""
    tasks = {name: _task(name, [answer for answer in answers if answer.task == name]) for name in _names(answers)}
    with patch.object(reading, "load_tasks", lambda names, _: ({name: tasks[name] for name in names}, {})):
        yield


def run_of(answers: Sequence[Answered], rule: str = "own_context", **engine: Any) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        return read_with(write_run(Path(folder) / "run", answers, rule, **engine), answers)


def _names(answers: Sequence[Answered]) -> list[str]:
    return list(dict.fromkeys(answer.task for answer in answers))


def _task(name: str, answers: Sequence[Answered]) -> SimpleNamespace:
    config = task_config(name)
    docs = {answer.doc_id: answer.doc for answer in answers}
    aggregations = {entry["metric"]: entry["aggregation"] for entry in config["metric_list"]}
    return SimpleNamespace(
        config=SimpleNamespace(reasoning_tags=None),
        _filters=[build_filter_ensemble("none", [["take_first", None]])],
        eval_docs_no_media=docs,
        eval_docs={number: {"image": Image.new("RGB", SIZE, "white")} for number in docs},
        doc_to_visual=lambda doc: [doc["image"]],
        process_results=config["process_results"],
        aggregation=lambda: {key: fmean if value == "mean" else value for key, value in aggregations.items()},
    )


def _metric_names(task: str) -> list[dict[str, str]]:
    return [{"metric": entry["metric"]} for entry in task_config(task)["metric_list"]]


__all__ = ["SCENES", "Answered", "answered", "documents_of", "read_with", "run_of", "scene", "task_config", "write_run"]
