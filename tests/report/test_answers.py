"""Choices of one trace, and reading a run back."""

import json
from pathlib import Path

import pytest

from dualfocus_eval.errors import UserError
from dualfocus_eval.report.answers import CHOICES, read_run
from dualfocus_eval.report.effect import SCENES
from tests.report.runs import answered, scene


def test_every_choice_is_scored_by_the_task() -> None:
    answer = answered(
        SCENES, scene(1, "red"), "blue", "The red.", picks={"own": "micro", "micro": "macro", "released": "micro"}
    )
    scores = {choice: answer.score(choice) for choice in CHOICES}
    assert scores == {
        "macro": 0, "micro": 1, "own rule": 1, "micro rule": 0, "released rule": 1, "oracle": 1,
    }  # fmt: skip


def test_the_oracle_takes_the_macro_answer_where_only_that_is_right() -> None:
    answer = answered(SCENES, scene(1, "red"), "red", "blue")
    assert [answer.score(choice) for choice in CHOICES] == [1, 0, 0, 0, 0, 1]


def test_without_a_box_every_choice_is_the_macro_answer() -> None:
    assert {answered(SCENES, scene(1, "red"), "red", None).score(choice) for choice in CHOICES} == {1}
    assert {answered(SCENES, scene(1, "red"), "blue", None).score(choice) for choice in CHOICES} == {0}


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results"):
        read_run(tmp_path)


def test_results_of_another_model_and_results_without_samples_are_refused(tmp_path: Path) -> None:
    results = tmp_path / "model" / "1_results.json"
    results.parent.mkdir()
    results.write_text(json.dumps({"config": {"resolved_cli_args": {}}}))
    with pytest.raises(UserError, match="not from --model dualfocus"):
        read_run(tmp_path)
    record = {"traces": str(tmp_path), "settings_key": "k"}
    results.write_text(json.dumps({"config": {"resolved_cli_args": {"dualfocus": record}}}))
    with pytest.raises(UserError, match="--log_samples"):
        read_run(tmp_path)
