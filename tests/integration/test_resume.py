"""A run that dies goes on where it stopped, and ends as if it had never died."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.integration.conftest import BIN, Run, read_traces, trace_files


def command(checkpoint: Path, traces: Path) -> list[str]:
    return [
        "--model_args", f"pretrained={checkpoint},trace_dir={traces},dtype=float64",
        "--tasks", "df_pope_mini", "--limit", "16", "--batch_size", "2",
    ]  # fmt: skip


def answered(traces: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in trace_files(traces))


def test_kill_and_run_again(run_here: Run, environment: dict[str, str], checkpoint: Path, tmp_path: Path) -> None:
    traces = tmp_path / "killed"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "lmms-eval"), "--model", "dualfocus", *command(checkpoint, traces)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and answered(traces) < 8:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    kept = answered(traces)
    assert 8 <= kept < 48

    resumed = run_here(*command(checkpoint, traces), output="resumed")
    undisturbed = run_here(*command(checkpoint, tmp_path / "undisturbed"), output="undisturbed")
    summary = resumed.record["summary"]
    assert (summary["questions"], summary["resumed"]) == (48, kept)
    keys = [trace["key"] for trace in read_traces(traces)]
    assert len(keys) == len(set(keys)) == 48
    assert undisturbed.record["summary"]["resumed"] == 0
    assert summary["decode_steps"] < undisturbed.record["summary"]["decode_steps"]

    assert resumed.answers == undisturbed.answers
    assert resumed.scores == undisturbed.scores
    assert summary["selected"] == undisturbed.record["summary"]["selected"]

    again = run_here(*command(checkpoint, traces), output="again")
    assert again.record["summary"]["resumed"] == 48
    assert again.record["summary"]["tokens_prefilled"] == again.record["summary"]["images_encoded"] == 0
    assert again.answers == undisturbed.answers
