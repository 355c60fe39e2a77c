"""Two ranks share the work, each with its own trace file, and report together."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import Run, read_traces, trace_files

TASK = ["--tasks", "df_pope_mini", "--limit", "7", "--batch_size", "2"]


def test_two_ranks_answer_as_one(run: Run, run_here: Run, checkpoint: Path, tmp_path: Path) -> None:
    # What `accelerate launch` runs for several GPUs.
    both = run(
        "torchrun", "--standalone", "--nproc-per-node", "2", "-m", "dualfocus_eval", "eval",
        "--model_args", f"pretrained={checkpoint},dtype=float64,trace_dir={tmp_path / 'both'}", *TASK,
        env={"ACCELERATE_USE_CPU": "true"}, output="both",
    )  # fmt: skip
    settings = f"pretrained={checkpoint},dtype=float64,trace_dir={tmp_path / 'alone'}"
    alone = run_here("--model_args", settings, *TASK, output="alone")
    assert both.status == 0, both.output
    assert both.answers == alone.answers
    assert both.record["summary"]["questions"] == 21
    assert both.record["summary"]["selected"] == alone.record["summary"]["selected"]
    assert both.output.count("boxes parsed") == 1
    assert both.record["processes"] == 2
    texts = {place: sample["dualfocus"]["answer"].strip() for place, sample in both.samples.items()}
    assert texts == both.answers
    assert sum(counts["questions"] for counts in both.record["tasks"].values()) == 21

    files = trace_files(tmp_path / "both")
    assert [path.name for path in files] == ["traces.rank0000.jsonl", "traces.rank0001.jsonl"]
    keys = [trace["key"] for trace in read_traces(tmp_path / "both")]
    assert sorted(keys) == sorted(f"{task}/{number}" for task, number in both.answers)
    for path in files:
        assert path.stat().st_size > 0


def test_accelerate_launch_on_cpus_starts_one_process_and_the_run_says_so(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    done = run(
        "accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "dualfocus_eval", "eval",
        "--model_args", f"pretrained={checkpoint},trace_dir={tmp_path / 'traces'}", *TASK,
    )  # fmt: skip
    assert done.status == 0, done.output
    assert done.record["processes"] == 1
    assert len(read_traces(tmp_path / "traces")) == len(done.answers) == 21
    (warning,) = done.record["warnings"]
    assert f"warning: {warning}" in done.output
    assert "torchrun --nproc-per-node N" in warning
