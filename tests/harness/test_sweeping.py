"""The settings of a sweep by name: their folders, their arguments, and the tasks that they can be asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.harness import sweeping
from dualfocus_eval.harness.lmms_eval_command import Outcome
from dualfocus_eval.harness.sweeping import Sweep, run_sweep, variants_of


def test_every_setting_has_a_folder_of_its_own() -> None:
    detectors = [f"detector:detector={name}" for name in ("a/b", "a_b", "a b")]
    folders = [variant.folder for variant in variants_of([*detectors, "text_box", "text_box"], ["append_crop"])]
    assert len(set(folders)) == len(folders) == 4
    assert folders[-1] == "text_box-append_crop"
    assert all(Path(folder).name == folder for folder in folders)


@pytest.mark.parametrize("argument", ["dtype=bfloat16", "pretrained=other", "batch_size=2", "max_thinking_tokens=3"])
def test_what_changes_the_macro_answers_is_no_argument_of_one_setting(argument: str) -> None:
    with pytest.raises(UserError, match="those of all settings go to --model_args"):
        variants_of([f"text_box:{argument}"], ["append_crop"])
    assert variants_of(["text_box:margin=3"], ["joint"])[0].arguments == {
        "grounding": "text_box", "margin": "3", "second_pass": "joint",
    }  # fmt: skip


def test_the_data_set_s_boxes_are_looked_at_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configs = {"pope": {}, "scenes": {"metadata": {"dualfocus": {"box": "box"}}}}
    commands: list[list[str]] = []

    def run(command: list[str]) -> Outcome:
        commands.append(command)
        return Outcome(0, (), configs)

    monkeypatch.setattr(sweeping, "run_lmms_eval", run)
    sweep = Sweep(["--tasks", "both"], "", None, variants_of(["text_box", "truth"], ["append_crop"]), tmp_path)
    outcomes, done = run_sweep(sweep)
    assert [tasks_of(command) for command in commands] == ["both", "both", "scenes"]
    assert [outcome.remarks for outcome in outcomes.values()] == [
        (), (), ("pope left out, of which no column of boxes is known",),
    ]  # fmt: skip
    assert done == Counters()

    commands.clear()
    del configs["scenes"]  # the run itself says that there are none
    run_sweep(sweep)
    assert [tasks_of(command) for command in commands] == ["both"] * 3


def tasks_of(command: list[str]) -> Any:
    from lmms_eval.__main__ import parse_eval_args

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lmms-eval", *command])
        return parse_eval_args()[1].tasks
