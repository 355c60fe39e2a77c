"""lmms-eval's flags in whole runs in this process, with a small checkpoint and two questions of an embedded set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmms_eval.evaluator
import lmms_eval.models
import lmms_eval.tasks
import pytest
import yaml

from dualfocus_eval.cli.eval import main
from dualfocus_eval.common.errors import UserError
from tests.integration.conftest import read_output, read_traces

TASK = "df_pope_mini_random"


@dataclass
class Outcome:
    status: int
    results: dict[str, Any]
    samples: dict[tuple[str, int], dict[str, Any]]
    traces: list[dict[str, Any]]

    @property
    def digests(self) -> dict[str, str]:
        """Of the questions that were asked, by key."""
        return {trace["key"]: trace["question_digest"] for trace in self.traces}

    @property
    def warnings(self) -> list[str]:
        warnings: list[str] = self.results["dualfocus"]["warnings"]
        return warnings


@pytest.fixture
def evaluate(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``dualfocus eval`` with two questions, without lmms-eval's own thousands of tasks."""
    monkeypatch.setattr(lmms_eval.tasks, "__file__", str(tmp_path / "none" / "__init__.py"))

    def evaluate(*flags: str, arguments: str = "", questions: int = 2) -> Outcome:
        output = tmp_path / f"output-{len(list(tmp_path.iterdir()))}"
        status = main([
            "--model_args", f"pretrained={checkpoint},strategy=macro{arguments}", "--tasks", TASK,
            "--limit", str(questions), "--output_path", str(output), "--log_samples", *flags,
        ])  # fmt: skip
        return Outcome(status, *read_output(output), read_traces(output / "traces"))

    return evaluate


def test_a_system_instruction_is_asked_with(evaluate: Callable[..., Outcome]) -> None:
    plain = evaluate()
    argument = evaluate(arguments=",system_prompt=Always say no.")
    flag = evaluate("--system_instruction", "Always say no.", "--apply_chat_template")
    simple = evaluate("--system_instruction", "Always say no.", "--force_simple")
    assert flag.status == plain.status == 0
    assert flag.digests == argument.digests == simple.digests
    assert not set(flag.digests.values()) & set(plain.digests.values())
    assert flag.warnings == []


def test_requests_are_built_anew_and_answered(evaluate: Callable[..., Outcome]) -> None:
    plain = evaluate()
    for mode in ("true", "refresh", "delete"):
        cached = evaluate("--cache_requests", mode)
        assert (cached.status, cached.digests) == (0, plain.digests)
        assert [line.partition(":")[0] for line in cached.warnings] == ["--cache_requests has no effect"]


def test_flags_that_work(evaluate: Callable[..., Outcome]) -> None:
    done = evaluate(
        "--offset", "3", "--gen_kwargs", "max_new_tokens=2", "--seed", "7", "--process_with_media", "--show_config",
        "--write_out", "--process_docs_parallel", "1", "--batch_size", "2", "--timezone", "UTC",
        "--repeats", "2", "--num_fewshot", "0", "--max_tokens", "9", "--device", "cpu",
    )  # fmt: skip
    assert done.status == 0
    assert set(done.digests) == {f"{TASK}/3", f"{TASK}/4"}
    assert [line.partition(" ")[0] for line in done.warnings] == ["--repeats", "--max_tokens"]
    assert all(len(trace["macro"]["token_ids"]) <= 2 for trace in done.traces)
    silent = evaluate("--predict_only")
    assert silent.status == 0
    assert len(silent.samples) == 2


def test_a_comma_in_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tasks", TASK, "--limit", "1", "--model_args", "strategy=macro"]
    assert main([*arguments, "--output_path", str(tmp_path / "one,two")]) == 2
    assert "one,two: a comma would end a model argument, trace_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_fewshot", "2"],
        ["--use_cache", "cache"],
        ["--check_integrity"],
        ["--gen_kwargs", "temperature=0.7"],
        ["--gen_kwargs", "max_new_tokens=many"],
    ],
    ids=" ".join,
)
def test_flags_that_are_refused(
    evaluate: Callable[..., Outcome], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*flags).status == 2
    shown = capsys.readouterr()
    name = flags[0] if flags[0] != "--gen_kwargs" else f"generation argument {flags[1].partition('=')[0]}"
    assert f"{name}" in shown.err.splitlines()[-1]
    assert "Traceback" not in shown.err


def test_python_callers_have_the_same_flags(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms_eval.tasks, "__file__", str(tmp_path / "none" / "__init__.py"))
    traces = tmp_path / "traces"
    arguments = f"pretrained={checkpoint},strategy=macro,trace_dir={traces}"
    shared: dict[str, Any] = {"model": "dualfocus", "model_args": arguments, "tasks": [TASK], "limit": 2}
    lmms_eval.evaluator.simple_evaluate(**shared)
    lmms_eval.evaluator.simple_evaluate(**shared, system_instruction="Be brief.", cache_requests=True)
    assert len({trace["question_digest"] for trace in read_traces(traces)}) == 4
    assert not any(trace["error"] for trace in read_traces(traces))
    with pytest.raises(UserError, match="--num_fewshot 2 is not supported by dualfocus"):
        lmms_eval.evaluator.simple_evaluate(**shared, num_fewshot=2)


def test_a_file_of_arguments(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lmms_eval.tasks, "__file__", str(tmp_path / "none" / "__init__.py"))
    output = tmp_path / "output"
    arguments = f"pretrained={checkpoint},strategy=macro"
    run = {"tasks": TASK, "limit": 2, "output_path": str(output), "log_samples": True, "model_args": arguments}
    path = tmp_path / "runs.yaml"
    path.write_text(yaml.safe_dump([run]))
    assert main(["--config", str(path)]) == 0
    assert len(read_traces(output / "traces")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("tasks: [", "is not YAML: "),
        ("just text", "expected arguments with values"),
        ("", "expected arguments with values"),
        ("[]", "expected arguments with values"),
        (json.dumps({"tasks": TASK, "model_args": 5}), "model_args=5 is neither text nor names with values"),
        (json.dumps({"tasks": TASK, "model_args": {"margin": "wide"}}), "margin: 'wide' is not a number"),
        (json.dumps({"tasks": TASK, "limits": 2}), "unknown argument 'limits'. Did you mean limit?"),
        (json.dumps({"tasks": TASK, "model_args": "strategi=macro"}), "Did you mean strategy?"),
        (json.dumps([{"tasks": TASK}, {"tasks": TASK, "model_args": "selection=best"}]), "not one of: own_context"),
    ],
)
def test_what_is_wrong_with_a_file_of_arguments(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as caught:
        main(["--config", str(path)])
    assert "\n" not in str(caught.value)
