"""``lmms-eval --model dualfocus`` with no further flag, and the built-in tasks."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from tests.integration.conftest import Run, read_traces

POPE = [f"df_pope_mini_{split}" for split in ("adversarial", "popular", "random")]


def test_our_tasks_run_with_no_flag_and_no_variable(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    done = run(
        "lmms-eval", "--model", "dualfocus", "--model_args", f"pretrained={checkpoint}",
        "--tasks", "df_pope_mini,df_scenes_mini", "--limit", "8", "--batch_size", "4",
    )  # fmt: skip
    assert done.status == 0
    assert set(done.results["results"]) == {"df_pope_mini", *POPE, "df_scenes_mini"}
    assert len(done.answers) == 4 * 8
    assert list((tmp_path / "working").iterdir()) == []

    record = done.record
    summary = record["summary"]
    traces = read_traces(Path(record["traces"]))
    assert record["settings"]["strategy"] == "dualfocus"
    assert summary["questions"] == 32 == len(traces)
    assert summary["boxes_parsed"] == sum(trace["grounding"]["box"] is not None for trace in traces) > 0
    assert summary["both_candidates"] == sum(trace["micro"] is not None for trace in traces) > 0
    assert sum(summary["selected"].values()) == 32
    assert {trace["key"] for trace in traces} == {f"{task}/{number}" for task, number in done.answers}
    for trace in traces:
        task, number = trace["key"].split("/")
        assert done.answers[task, int(number)] == trace[trace["selected"]]["text"].strip()
    assert "boxes parsed" in done.output
    assert record["traces"] in done.output.replace("\n", "")


@pytest.mark.parametrize(
    ("model", "mode"), [("random", "chat"), ("random", "simple"), ("embedded", "chat")], ids=lambda value: value
)
def test_macro_equals_lmms_evals_own_llava(run_here: Run, checkpoint: Path, model: str, mode: str) -> None:
    pretrained = checkpoint if model == "random" else resource_folder("models") / EMBEDDED_CHECKPOINT
    limit = ["--limit", "30"] if model == "random" else []
    shared = ["--tasks", "df_pope_mini", *limit, *(["--force_simple"] if mode == "simple" else [])]
    theirs = run_here(
        "--model", "llava_hf", "--model_args",
        f"pretrained={pretrained},dtype=float32,device=cpu,device_map=cpu", *shared, output="theirs",
    )  # fmt: skip
    ours = run_here(
        "--model_args",
        f"pretrained={pretrained},dtype=float32,device=cpu,strategy=macro,batch_size=7", *shared, output="ours",
    )  # fmt: skip
    assert len(theirs.answers) == (90 if model == "random" else 1080)
    assert all(theirs.answers.values())
    if model == "random":  # a trained one says yes or no
        assert len(set(theirs.answers.values())) > 10
    assert ours.answers == theirs.answers
    for task in POPE:
        assert ours.scores[task]["f1,none"] == theirs.scores[task]["f1,none"]


def test_the_built_in_pope_runs_unmodified_on_a_local_folder(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "working" / "lmms-lab-encoder" / "POPE" / "data"
    folder.mkdir(parents=True)
    rows = pq.read_table(resource_folder("tasks") / "pope" / "data" / "random.parquet").slice(0, 12)
    pq.write_table(rows, folder / "test-00000-of-00001.parquet")
    done = run(
        "lmms-eval", "--model", "dualfocus", "--model_args", f"pretrained={checkpoint}", "--tasks", "pope",
        "--batch_size", "4",
    )  # fmt: skip
    assert len(done.answers) == 12
    assert set(done.scores["pope"]) >= {"pope_accuracy,none", "pope_f1_score,none"}
    traces = read_traces(Path(done.record["traces"]))
    assert len(traces) == 12
    assert done.record["summary"]["grounded"] == 12
