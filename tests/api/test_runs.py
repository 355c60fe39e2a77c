"""Finished runs from Python: the same numbers as the commands."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import dualfocus_eval as df
from dualfocus_eval.cli.main import main
from tests.gate.gate import asked, documents, gate_run

QUESTIONS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``worse`` is wrong about the first question, ``better`` about none; ``worse.json`` is a baseline of the first."""
    folder = tmp_path_factory.mktemp("runs")
    right = [asked(number, documents()[number]["answer"]) for number in range(QUESTIONS)]
    wrong = asked(0, "no" if documents()[0]["answer"] == "yes" else "yes")
    gate_run(folder / "better", right)
    gate_run(folder / "worse", [wrong, *right[1:]])
    for name in ("better", "worse"):
        assert main(["regress", str(folder / name), "--baseline", str(folder / f"{name}.json"), "--update"]) == 0
    return folder


def test_traces_are_a_row_per_question_and_a_copy(folder: Path) -> None:
    run = df.read_run(folder / "worse")
    traces = run.traces
    assert len(traces) == QUESTIONS
    assert {"key", "macro_text", "micro_nll", "box_x1", "selected", "score_selected"} <= set(traces.columns)
    traces["key"] = "changed"
    assert run.traces["key"].iloc[0] == "df_pope_mini_random/0"
    assert run.path.name == "1_results.json"
    assert run.settings["strategy"] == "dualfocus"
    assert repr(run).endswith(f"{QUESTIONS} questions)")


def test_a_run_writes_its_report(folder: Path, tmp_path: Path) -> None:
    index = df.read_run(folder / "worse").report(tmp_path / "report")
    assert index == tmp_path / "report" / "index.html"
    assert index.is_file()


def test_two_runs_are_compared_by_task_and_question(folder: Path) -> None:
    found = df.compare(folder / "worse", df.read_run(folder / "better"))
    row = found.tasks.loc["df_pope_mini_random"]
    assert (row["n"], row["better"], row["worse"]) == (QUESTIONS, 1, 0)
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["p"] == row["p_holm"] == 1.0
    assert list(found.flips["key"]) == ["df_pope_mini_random/0"]
    assert found.left_out == {}


def test_a_run_is_judged_by_a_baseline(folder: Path) -> None:
    assert df.judge(df.read_run(folder / "better"), folder / "worse.json").passed
    verdict = df.judge(folder / "worse", folder / "better.json")
    assert not verdict.passed
    assert [move.key for move in verdict.moves] == ["df_pope_mini_random/0"]
    assert df.judge(folder / "worse", folder / "better.json", max_drop=20).passed
    for limits in ({"max_drop": math.nan}, {"max_drop": -1}, {"min_scores": {"df_pope_mini_random": math.nan}}):
        with pytest.raises(df.UserError, match="is not a number from 0 to 100"):
            df.judge(folder / "worse", folder / "better.json", **limits)
    with pytest.raises(df.UserError, match="another checkpoint"):
        df.judge(folder / "worse", "df_textvqa_mini")
    with pytest.raises(df.UserError, match="no baseline nowhere"):
        df.judge(folder / "worse", "nowhere")
    with pytest.raises(df.UserError, match="nowhere"):
        df.read_run(folder / "nowhere")
