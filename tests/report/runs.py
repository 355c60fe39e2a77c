"""Runs made by hand, scored by the tasks' real scoring functions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.method.boxes import Box, BoxOutcome
from dualfocus_eval.method.crops import Crop
from dualfocus_eval.method.selection import RULES, Decision, Pathway, Rule
from dualfocus_eval.method.trace import Grounding, ImageInfo, Trace
from dualfocus_eval.report.answers import RunAnswers, ScoredAnswer, score_choices
from dualfocus_eval.report.effect import POPE, SCENES
from dualfocus_eval.resources import resource_folder
from tests.scripted_engine import completion

SIZE = (400, 200)


@cache
def task_config(name: str) -> dict[str, Any]:
    path: Path = next(resource_folder("tasks").rglob(f"{name}.yaml"))
    config: dict[str, Any] = load_yaml_config(str(path), mode="full")
    return config


def answered(
    task: str,
    doc: dict[str, Any],
    macro: str,
    micro: str | None,
    *,
    doc_id: int = 0,
    image: str = "image",
    picks: dict[Rule, Pathway] | None = None,
    rule: Rule = "own",
    box: Box | None = None,
    nlls: tuple[float, float] = (0.5, 0.4),
) -> ScoredAnswer:
    """One question; ``picks`` names what each rule selects (default: micro wherever there is one)."""
    box = box or Box(0.1, 0.1, 0.3, 0.5)
    picks = picks or dict.fromkeys(RULES, "micro")
    two = micro is not None
    trace = Trace(
        key=f"{task}/{doc_id}",
        question_digest="",
        settings_key="",
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
    process = task_config(task)["process_results"]
    return ScoredAnswer(task, doc_id, doc, trace, score_choices(trace, lambda text: process(doc, [text])))


def scene(number: int, answer: str, **fields: Any) -> dict[str, Any]:
    """A document of df_scenes_mini, about a mark unless ``fields`` says otherwise."""
    return {
        "question_id": f"scene-{number:03}", "image_id": "i", "question": "What color is the label on the mug?",
        "answer": answer, "kind": "mark_color", "level": "detail", "box": [40.0, 20.0, 120.0, 100.0],
    } | fields  # fmt: skip


def run_of(answers: list[ScoredAnswer], rule: Rule = "own", **engine: Any) -> RunAnswers:
    record = {
        "settings": {"selection": rule},
        "settings_from": {"selection": "recipe"},
        "engine": {"pretrained": "some/checkpoint", "revision": None, "image_aspect": "checkpoint"} | engine,
        "summary": {"failures": {}, "fallbacks": {"unparsable": 1}, "resumed": 0},
    }
    pope = SimpleNamespace(aggregation=lambda: {"f1": pope_f1})
    images = [{"image": Image.new("RGB", SIZE, "white")}] * (1 + max((answer.doc_id for answer in answers), default=0))
    scenes = SimpleNamespace(eval_docs=images, doc_to_visual=lambda doc: [doc["image"]])
    return RunAnswers(record, 12.3, dict.fromkeys(POPE, pope) | {SCENES: scenes}, answers)


def pope_f1(pairs: list[dict[str, Any]]) -> float:
    metrics = {metric["metric"]: metric["aggregation"] for metric in task_config(POPE[0])["metric_list"]}
    return float(metrics["f1"](pairs))
