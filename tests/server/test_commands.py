"""What users run, in front of a real server: lmms-eval's own command, and ours on one question and on finished runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from measurements.vllm_server import Running
from tests.integration.conftest import Run, read_output, read_traces
from tests.server.conftest import Compared

pytestmark = pytest.mark.server


def dualfocus(*arguments: str | Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dualfocus_eval", *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def test_lmms_evals_own_command(run: Run, server: Running) -> None:
    done = run(
        "lmms-eval", "--model", "dualfocus", "--model_args", f"engine=server,base_url={server.base_url}",
        "--tasks", "df_scenes_mini", "--limit", "8",
    )  # fmt: skip
    assert done.status == 0, done.output
    assert len(done.answers) == 8
    record = done.record
    assert record["summary"]["questions"] == 8 == sum(record["summary"]["selected"].values())
    assert record["engine"]["base_url"] == [f"{server.base_url}/v1"]
    assert record["environment"]["server"].startswith("vllm ")
    traces = read_traces(Path(record["traces"]))
    assert {trace["key"] for trace in traces} == {f"{task}/{number}" for task, number in done.answers}
    for trace in traces:
        task, number = trace["key"].split("/")
        assert done.answers[task, int(number)] == trace[trace["selected"]]["text"].strip()


def test_one_question(server: Running, tmp_path: Path) -> None:
    """The example, whose answer the second pass puts right."""
    arguments = f"engine=server,base_url={server.base_url}"
    done = dualfocus("ask", "--json", "--model_args", arguments, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["answer"], found["selected"], found["macro"]["text"]) == ("K", "micro", "X")


def test_the_report_of_a_run(compared: Compared, tmp_path: Path) -> None:
    done = dualfocus("report", compared.server, "--out", tmp_path / "report", cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report" / "report.md").read_text()
    assert compared.task in page
    assert "server (vllm" in page


def test_the_runs_of_both_engines_compared(compared: Compared, tmp_path: Path) -> None:
    """They differ by nothing, and are not said to be of different questions."""
    done = dualfocus("compare", compared.server, compared.in_process, cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results, samples = read_output(compared.server)
    assert compared.task in done.stdout
    assert len(samples) >= 40
    assert results["results"][compared.task]


def test_the_check_of_a_setup(server: Running, tmp_path: Path) -> None:
    done = dualfocus("check", "--model_args", f"engine=server,base_url={server.base_url}", cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is off." in done.stdout


def test_a_baseline_of_the_engine_in_process(compared: Compared, tmp_path: Path) -> None:
    """It judges a run on a server only if the user says that it may."""
    baseline = tmp_path / "baseline.json"
    made = dualfocus("regress", compared.in_process, "--baseline", baseline, "--update", cache=tmp_path)
    assert made.returncode == 0, made.stderr
    refused = dualfocus("regress", compared.server, "--baseline", baseline, cache=tmp_path)
    assert (refused.returncode, "--other-engine" in refused.stderr) == (2, True)
    judged = dualfocus("regress", compared.server, "--baseline", baseline, "--other-engine", cache=tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr
