"""Runs of one model together: its answers are those of each run alone, and so is what they are said to cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from PIL import Image
from pyarrow import parquet

from dualfocus_eval.api.asking import QuestionText, ask_about
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.harness import session
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.session import Session
from dualfocus_eval.harness.together import other_runs, runs_together
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import join_traces

GROUNDINGS = ("text_box", "center", "random", "whole", "truth")
COUNTED = ("images_encoded", "tokens_prefilled", "decode_steps")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """One about a detail of each of eight scenes, with the box of what it asks about."""
    path = resource_folder("tasks") / "scenes" / "data" / "mini.parquet"
    rows = {row["image_id"]: row for row in parquet.read_table(path).slice(0, 60).to_pylist() if row["box"]}
    return [_question(row) for row in rows.values()][:8]


def _question(row: Mapping[str, Any]) -> Question:
    asked = ask_about(row["image"]["bytes"], QuestionText.of(row["question"])).question
    width, height = Image.open(BytesIO(row["image"]["bytes"])).size
    left, top, right, bottom = row["box"]
    return replace(asked, truth=Box(left / width, top / height, right / width, bottom / height))


def run(arguments: Mapping[str, Any], questions: list[Question]) -> Counters:
    """Answer the questions as a run of lmms-eval does; what that took."""
    made = Session(resolve(arguments), Accelerator(), others=other_runs(arguments))
    for _ in made.answered([(0, questions[:4]), (1, questions[4:])]):
        pass
    made.finish()
    record: dict[str, Any] = made._finished[0]["summary"]  # type: ignore[index]
    return Counters(**{name: record[name] for name in COUNTED})


def traces(folder: Path) -> dict[str, Trace]:
    return {trace.key: trace for trace in join_traces(folder)}


def outcome(trace: Trace) -> tuple[Any, ...]:
    answers = [answer and answer.token_ids for answer in (trace.macro, trace.micro)]
    return (*answers, trace.grounding and trace.grounding.crop, trace.selected, trace.fallback, trace.settings_key)


def cost(found: Mapping[str, Trace]) -> dict[str, int]:
    costs = [trace.cost for trace in found.values() if trace.cost]
    return {name: sum(getattr(cost, name) for cost in costs) for name in COUNTED}


def test_answers_and_costs_are_those_of_runs_alone(questions: list[Question], tmp_path: Path) -> None:
    settings = {name: {"grounding": name, "trace_dir": str(tmp_path / name)} for name in GROUNDINGS}
    common: dict[str, Any] = {"batch_size": 4, "dtype": "float64"}
    macro = {**common, "strategy": "macro", "trace_dir": str(tmp_path / "macro")}
    loaded = []
    start = session.start_engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "start_engine", lambda config: loaded.append(config) or start(config))
        with runs_together([{"strategy": None, **own} for own in settings.values()]):
            together = run(macro, questions)
            assert [run({**common, **own}, questions) for own in settings.values()] == [Counters()] * len(settings)
    assert len(loaded) == 1

    for name in ("text_box", "center", "truth"):
        run({**common, "grounding": name, "trace_dir": str(tmp_path / f"{name} alone")}, questions)
        found, alone = traces(tmp_path / name), traces(tmp_path / f"{name} alone")
        for key, trace in alone.items():
            assert outcome(found[key]) == outcome(trace)
        expected, shared = cost(alone), cost(found)
        assert shared["images_encoded"] == expected["images_encoded"]
        assert shared["decode_steps"] == expected["decode_steps"]
        assert shared["tokens_prefilled"] == pytest.approx(expected["tokens_prefilled"], rel=0.1)
    total = {name: sum(cost(traces(tmp_path / setting))[name] for setting in GROUNDINGS) for name in COUNTED}
    assert together.images_encoded < 0.7 * total["images_encoded"]
    assert together.tokens_prefilled + together.decode_steps < 0.6 * (total["tokens_prefilled"] + total["decode_steps"])
