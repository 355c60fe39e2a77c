"""lmms-eval as a user runs it: real processes, a working directory of its own, no network, a cache of this session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import browser, open_page

__all__ = ["browser", "open_page"]

BIN = Path(sys.executable).parent


@dataclass
class Outcome:
    """How a process ended, and what it left in its output folder."""

    status: int
    output: str
    results: dict[str, Any] = field(default_factory=dict)
    samples: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    """By task and document number."""

    @property
    def record(self) -> dict[str, Any]:
        """What the model left in the results."""
        record: dict[str, Any] = self.results["dualfocus"]
        return record

    @property
    def answers(self) -> dict[tuple[str, int], str]:
        return {place: sample["filtered_resps"] for place, sample in self.samples.items()}

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        scores: dict[str, dict[str, Any]] = self.results["results"]
        return scores


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    private = {"XDG_CACHE_HOME": str(cache), "HF_HOME": str(cache / "huggingface"), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **private, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    return runner(tmp_path, environment)


def runner(folder: Path, environment: Mapping[str, str]) -> Run:
    """A function that runs a command (a script of this environment and its arguments) that writes results and samples
    below ``folder``."""

    def run(
        *command: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        output: str = "output",
        before: Callable[[], None] | None = None,
        read: bool = True,
    ) -> Outcome:
        written = folder / output
        arguments = [*map(str, command), "--output_path", str(written), "--log_samples"]
        arguments[0] = str(BIN / arguments[0])
        working = cwd or folder / "working"
        working.mkdir(exist_ok=True)
        done = subprocess.run(
            arguments,
            cwd=working,
            env={**environment, "XDG_CACHE_HOME": str(folder / "cache"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            preexec_fn=before,
        )
        return Outcome(done.returncode, done.stdout, *(read_output(written) if read else ()))

    return run


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Like `run` of ``dualfocus eval``, in this process and without lmms-eval's own thousands of tasks."""
    import lmms_eval.tasks

    from dualfocus_eval.cli.eval import main

    (tmp_path / "working").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lmms_eval.tasks, "__file__", str(tmp_path / "none" / "__init__.py"))

    def run_here(*arguments: str | Path, output: str = "output") -> Outcome:
        written = tmp_path / output
        try:
            status = main([*map(str, arguments), "--output_path", str(written), "--log_samples"])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Outcome(status, "".join(capsys.readouterr()), *read_output(written))

    return run_here


def read_output(folder: Path) -> tuple[dict[str, Any], dict[tuple[str, int], dict[str, Any]]]:
    """The last results file under ``folder``, and all sample files' lines."""
    results = sorted(folder.rglob("*_results.json"))
    samples = {}
    for path in sorted(folder.rglob("*_samples_*.jsonl")):
        task = path.stem.split("_samples_")[1]
        for line in path.read_text().splitlines():
            sample = json.loads(line)
            samples[task, sample["doc_id"]] = sample
    return (json.loads(results[-1].read_text()) if results else {}), samples


def read_traces(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in trace_files(folder) for line in path.read_text().splitlines()]


def trace_files(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("traces.rank*.jsonl"))
