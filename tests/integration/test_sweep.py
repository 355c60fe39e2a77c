"""``dualfocus sweep`` as a user runs it, on the embedded checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.cli.main import main
from dualfocus_eval.method.grounding import GROUNDING
from tests.integration.conftest import BIN, read_output, read_traces, trace_files
from tests.server_double import NAME

QUESTIONS = 12
GROUNDINGS = "text_box,shifted:jitter=25"
Sweep = Callable[..., tuple[int, str]]


def command(out: Path, *more: str, limit: int = QUESTIONS, batch: int = 4) -> list[str]:
    size = ["--limit", str(limit), "--batch_size", str(batch)]
    return ["sweep", "--tasks", "df_scenes_mini", *size, "--out", str(out), *more]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sweep:
    """The command in this process, without lmms-eval's own thousands of tasks: its exit status and what it said."""
    import lmms_eval.tasks

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lmms_eval.tasks, "__file__", str(tmp_path / "none" / "__init__.py"))

    def run(*arguments: str) -> tuple[int, str]:
        status = main(list(arguments))
        return status, "".join(capsys.readouterr())

    return run


def traces_of(out: Path, setting: str) -> list[dict[str, Any]]:
    return read_traces(out / "runs" / setting / "traces")


def summary(out: Path, setting: str) -> dict[str, Any]:
    results, _ = read_output(out / "runs" / setting)
    found: dict[str, Any] = results["dualfocus"]["summary"]
    return found


def work(counts: dict[str, Any]) -> tuple[int, int]:
    """Images encoded, and tokens prefilled or decoded."""
    return counts["images_encoded"], counts["tokens_prefilled"] + counts["decode_steps"]


def table(out: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / "tables" / f"{name}.json").read_text())["rows"]
    return rows


def test_a_killed_sweep_goes_on_and_a_setting_that_cannot_run_costs_no_other(
    sweep: Sweep, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    second = out / "runs" / "shifted_jitter_25-append_crop" / "traces"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "dualfocus"), *command(out, "--grounding", GROUNDINGS, batch=1)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and sum(path.read_bytes().count(b"\n") for path in trace_files(second)) < 2:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    kept = {name: len(traces_of(out, name)) for name in ("macro", "text_box-append_crop")}
    assert 2 <= kept["macro"] < QUESTIONS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GROUNDING.items, Silent.name, Silent())
        rules = "selection=released,score_all=true"
        status, said = sweep(*command(out, "--grounding", f"{GROUNDINGS},silent", "--model_args", rules))
    assert status == 1
    assert "dualfocus sweep: silent + append_crop: settings: " in said
    assert "selection='released' needs the model's own words for the region" in said

    assert summary(out, "macro")["resumed"] == kept["macro"]
    macro = {trace["key"]: trace["macro"] for trace in traces_of(out, "macro")}
    for grounding in ("text_box", "shifted_jitter_25"):
        found = traces_of(out, f"{grounding}-append_crop")
        assert len(found) == QUESTIONS
        assert {trace["key"]: trace["macro"] for trace in found} == macro
        assert work(summary(out, f"{grounding}-append_crop")) == (0, 0)  # the first run has answered for all
    rows = table(out, "selected_gain_and_harm")
    assert [(row["setting"], row["n"]) for row in rows] == [
        (f"{grounding} + append_crop", QUESTIONS) for grounding in ("text_box", "shifted:jitter=25")
    ]
    assert (out / "figures" / "accuracy_and_cost.svg").is_file()
    assert "silent + append_crop: settings: " in (out / "index.html").read_text()


class Silent:
    """As much of a grounding method without words as settings look at."""

    name, version, responds = "silent", 1, False


def test_on_a_server(sweep: Sweep, served: str, tmp_path: Path) -> None:
    out, server = tmp_path / "sweep", f"engine=server,base_url={served},model={NAME},strategy=micro"
    status, said = sweep(*command(out, "--grounding", "center", "--model_args", server, limit=2))
    assert status == 0, said
    assert len(traces_of(out, "center-append_crop")) == 2
    assert summary(out, "macro")["requests"] > 2
    assert summary(out, "center-append_crop")["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grounding", "text_bax"], "Did you mean text_box?"),
        (["--second_pass", "crop"], "Known: append_crop"),
        (["--grounding", "shifted"], "needs jitter, the number of pixels"),
        (["--grounding", "shifted:25"], "'shifted:25' is not NAME or NAME:ARGUMENT=VALUE"),
        (["--grounding", "text_box:strategy=macro"], "is not NAME or NAME:ARGUMENT=VALUE"),
        (["--grounding", "text_box:dtype=bfloat16"], "those of all settings go to --model_args"),
        (["--out", "one,two"], "--out one,two: a comma would end a model argument"),
        (["--grounding", "shifted:jiter=25"], "Did you mean jitter?"),
        (["--grounding", ","], "no grounding method is named"),
        (["--model_args", "grounding=center"], "a sweep sets grounding itself: name it with --grounding"),
        (["--model_args", "strategy=macro"], "strategy=macro is the baseline of every sweep"),
        (["--model_args", "trace_dir=x"], "traces are below --out"),
        (["--model_args", "margn=3"], "Did you mean margin?"),
        (["--output_path", "x"], "--output_path: a sweep"),
        (["--tasks", "df_nothing"], "Tasks not found: df_nothing"),
    ],
)
def test_mistakes(sweep: Sweep, tmp_path: Path, arguments: list[str], words: str) -> None:
    status, said = sweep(*command(tmp_path / "sweep", *arguments))
    assert status == 2
    assert words in said
    assert "Traceback" not in said
