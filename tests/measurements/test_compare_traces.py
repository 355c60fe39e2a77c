"""Two runs' traces compared: equal ones of different versions, and every kind of difference found."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.traces.record import Trace
from measurements.compare_traces import main

OLD = Path(__file__).parent.parent / "traces" / "old"


def read(version: int = 3) -> list[Trace]:
    return [Trace.from_json(line) for line in (OLD / f"{version}.jsonl").read_bytes().splitlines()]


def folder(path: Path, traces: list[Trace]) -> Path:
    (path / "traces").mkdir(parents=True)
    (path / "traces" / "traces.rank0000.jsonl").write_text("".join(trace.to_json() + "\n" for trace in traces))
    return path


@pytest.mark.parametrize("version", [1, 2, 3])
def test_equal_answers_are_equal_whatever_their_version(
    version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(OLD / f"{version}.jsonl", tmp_path / "old" / "traces.rank0000.jsonl")
    other = [replace(trace, settings_key="other", cost=None, arithmetic={}) for trace in read()]
    assert main([str(tmp_path / "old"), str(folder(tmp_path / "new", other))]) == 0
    assert "4; in both: 4; equal: 4; differences: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"picks": {"own_context": "macro", "micro_context": "micro", "released": "macro"}}, "picks.own_context"),
        ({"selected": "macro"}, "selected: 'micro' -> 'macro'"),
        ({"decision": "agreement"}, "decision"),
        ({"fallback": "video"}, "fallback: None -> 'video'"),
        ({"error": Failure("too_long", "")}, "error: None"),
    ],
)
def test_every_difference_is_named(
    changes: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = read()
    old, new = folder(tmp_path / "old", read()), folder(tmp_path / "new", [replace(first, **changes), *others])
    assert main([str(old), str(new)]) == 1
    shown = capsys.readouterr().out
    assert "equal: 3; differences: 1\n" in shown
    assert f"set/0: {said}" in shown


def test_texts_boxes_crops_and_numbers_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = read()
    assert first.macro
    assert first.micro
    assert first.grounding
    assert first.scores
    moved = replace(first.grounding, box=Box(0.1, 0.2, 0.5, 0.7), crop=Crop(39, 39, 345, 346))
    changed = replace(
        first,
        macro=replace(first.macro, text="Red", gap=7.0),
        micro=replace(first.micro, logprobs=(-0.25 - 5e-7, -0.5 - 2e-6), token_ids=(41, 2)),
        grounding=moved,
        scores=replace(first.scores, macro=(-0.5, math.nan)),
    )
    old, new = folder(tmp_path / "old", read()), folder(tmp_path / "new", [changed, *others])
    assert main([str(old), str(new)]) == 1
    lines = capsys.readouterr().out.splitlines()[1:]
    places = ("macro.text", "micro.token_ids[0]", "micro.logprobs[1]", "grounding.box.y2", "grounding.crop.bottom")
    assert [line.split(": ")[1] for line in lines] == [*places, "scores.macro[1]"]


def test_questions_of_one_run_alone_are_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folder(tmp_path / "old", read()), folder(tmp_path / "new", read()[1:])
    assert main([str(old), str(new)]) == 1
    assert f"set/0 (d0): only in {old}" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, empty = folder(tmp_path / "good", read()), tmp_path / "empty"
    empty.mkdir()
    assert main([str(good), str(empty)]) == 2
    assert "there are no traces" in capsys.readouterr().err
    damaged = folder(tmp_path / "damaged", read())
    with (damaged / "traces" / "traces.rank0000.jsonl").open("a") as file:
        file.write(json.dumps({"version": 3}) + "\n")
    assert main([str(good), str(damaged)]) == 2
    assert "damaged=1" in capsys.readouterr().err
    mixed = folder(tmp_path / "mixed", [*read()[1:], replace(read()[0], settings_key="other")])
    assert main([str(good), str(mixed)]) == 2
    assert "traces of 2 settings" in capsys.readouterr().err
