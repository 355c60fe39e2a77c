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
from tests.integration.conftest import BIN, read_output, read_traces, trace_files
from tests.server_double import NAME

GROUNDINGS = ("text_box", "center", "random", "whole", "truth")
Sweep = Callable[..., tuple[int, str]]


def command(out: Path, *more: str, limit: int = 8, batch: int = 4) -> list[str]:
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


def work(counts: list[dict[str, Any]]) -> tuple[int, int]:
    """Images encoded, and tokens prefilled or decoded."""
    return (
        sum(count["images_encoded"] for count in counts),
        sum(count["tokens_prefilled"] + count["decode_steps"] for count in counts),
    )


def table(out: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / "tables" / f"{name}.json").read_text())["rows"]
    return rows


def test_five_groundings_cost_half_of_five_runs(sweep: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    status, said = sweep(*command(out, "--grounding", ",".join(GROUNDINGS), limit=24))
    assert status == 0, said
    settings = [f"{name}-append_crop" for name in GROUNDINGS]
    first = {trace["key"]: trace["macro"] for trace in traces_of(out, "macro")}
    for setting in settings:
        assert {trace["key"]: trace["macro"] for trace in traces_of(out, setting)} == first
        assert work([summary(out, setting)]) == (0, 0)  # everything was computed by the first run
    alone = work([trace["cost"] for setting in settings for trace in traces_of(out, setting) if trace["cost"]])
    together = work([summary(out, "macro")])
    print(alone, together, [a / b for a, b in zip(together, alone, strict=True)])
    assert together[0] <= 0.5 * alone[0]
    assert together[1] <= 0.5 * alone[1]
    rows = table(out, "micro_gain_and_harm")
    assert [row["setting"] for row in rows] == [f"{name} + append_crop" for name in GROUNDINGS]
    assert [row["n"] for row in rows] == [24] * 5
    assert (out / "figures" / "accuracy_and_cost.svg").is_file()


def test_a_killed_sweep_goes_on(sweep: Sweep, environment: dict[str, str], tmp_path: Path) -> None:
    out, arguments = tmp_path / "sweep", ["--grounding", "text_box,center", "--second_pass", "append_crop,no_crop"]
    center = out / "runs" / "center-no_crop" / "traces"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "dualfocus"), *command(out, *arguments, batch=2)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and not any(path.read_bytes() for path in trace_files(center)):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    kept = {setting.name: len(read_traces(setting / "traces")) for setting in (out / "runs").iterdir()}
    assert 2 <= kept["macro"] < 8
    assert kept["center-no_crop"] >= 1

    status, said = sweep(*command(out, *arguments))
    assert status == 0, said
    assert summary(out, "macro")["resumed"] == kept["macro"]
    for setting in kept:
        keys = [trace["key"] for trace in traces_of(out, setting)]
        assert len(keys) == len(set(keys)) == 8
    before = table(out, "micro_gain_and_harm")
    status, said = sweep(*command(out, *arguments))
    assert (status, work([summary(out, "macro")])) == (0, (0, 0))
    assert table(out, "micro_gain_and_harm") == before


def test_a_setting_that_cannot_run_costs_no_other(sweep: Sweep, tmp_path: Path) -> None:
    arguments = ["--grounding", "text_box,detached", "--model_args", "selection=released,score_all=false"]
    out = tmp_path / "sweep"
    from dualfocus_eval.method.grounding import GROUNDING

    silent = Silent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GROUNDING.items, silent.name, silent)
        status, said = sweep(*command(out, *arguments, limit=2))
    assert status == 1
    assert "dualfocus sweep: detached + append_crop: settings: " in said
    assert "selection='released' needs the model's own words for the region" in said
    assert [row["setting"] for row in table(out, "micro_gain_and_harm")] == ["text_box + append_crop"]
    assert "detached + append_crop" in (out / "index.html").read_text()


class Silent:
    """As much of a grounding method without words as settings look at."""

    name, version, responds = "detached", 1, False


def test_on_a_server(sweep: Sweep, served: str, tmp_path: Path) -> None:
    out, address = tmp_path / "sweep", f"engine=server,base_url={served},model={NAME},score_all=false"
    selection = "selection=own_context"
    status, said = sweep(
        *command(out, "--grounding", "text_box,center", "--model_args", f"{address},{selection}", limit=2)
    )
    assert status == 0, said
    assert len(traces_of(out, "center-append_crop")) == 2
    assert summary(out, "center-append_crop")["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grounding", "text_bax"], "Did you mean text_box?"),
        (["--second_pass", "crop"], "append_crop, crop_only"),
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
