"""How ``dualfocus eval`` ends: exit status and last lines, whatever lmms-eval's inner function does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmms_eval import __main__ as lmms_eval

from dualfocus_eval.analysis import reading
from dualfocus_eval.cli.eval import _log_answers
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.export import wandb_table

RECORD = {
    "settings_key": "key",
    "summary": {"failures": {}, "unwritten": 0, "questions": 9},
    "tasks": {},
    "traces": "somewhere",
}


def scored(**summary: Any) -> Callable[[argparse.Namespace], Any]:
    results = {"results": {}, "date": "1", "dualfocus": RECORD | {"summary": RECORD["summary"] | summary}}  # type: ignore[operator]
    return lambda args: (results, None)


def raising(error: Exception) -> Callable[[argparse.Namespace], Any]:
    def evaluate(args: argparse.Namespace) -> Any:
        raise error

    return evaluate


CASES = {
    "all answered": (scored(), 0, ""),
    "another rank": (lambda args: (None, None), 0, ""),
    "another model": (lambda args: ({"results": {}, "date": "1"}, None), 0, ""),
    "failed questions": (
        scored(failures={"bad_image": 2, "oom": 1}),
        1,
        "dualfocus eval: 3 of 9 questions failed (bad_image 2, oom 1); they are tried again by the same command",
    ),
    "unstored answers": (
        scored(unwritten=4),
        1,
        "dualfocus eval: 4 answers could not be stored in somewhere",
    ),
    "a mistake": (raising(UserError("argument x is wrong")), 2, "dualfocus eval: error: argument x is wrong"),
    "a crash": (
        raising(RuntimeError("broken\nin two")),
        3,
        "dualfocus eval: the run broke before it was scored (RuntimeError: broken)",
    ),
    "an error of a value": (
        raising(ValueError("no such thing")),
        3,
        "dualfocus eval: the run broke before it was scored (ValueError: no such thing)",
    ),
}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms_eval, "make_table", lambda *given: "the table")
    monkeypatch.setattr(lmms_eval, "get_eval_banner", lambda **given: "")


@pytest.mark.parametrize("case", CASES)
def test_exit_status_and_last_line(
    quiet: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    inner, status, words = CASES[case]
    monkeypatch.setattr(lmms_eval, "cli_evaluate_single", inner)
    assert main(["eval", "--tasks", "t"]) == status
    last = capfd.readouterr().err.strip().splitlines()[-1:]
    assert [line for line in last if line.startswith("dualfocus eval:")] == ([words] if words else [])
    assert lmms_eval.cli_evaluate_single is inner


@pytest.mark.parametrize(
    ("log_samples", "note"),
    [
        (False, "W&B has no table of answers: it needs --output_path and --log_samples"),
        (True, "W&B: the table of answers has 1,000 of 5,490 questions"),
    ],
)
def test_nothing_is_wrong_with_a_run_whose_table_on_wandb_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_samples: bool, note: str
) -> None:
    monkeypatch.setattr(reading, "read_run", lambda path: None)
    monkeypatch.setattr(wandb_table, "log_answers", lambda run: ["the table of answers has 1,000 of 5,490 questions"])
    args = argparse.Namespace(wandb_args="project=p", output_path=str(tmp_path), log_samples=log_samples)
    notes: list[str] = []
    assert _log_answers(notes, args, {"date": "1"}) == []
    assert notes == [note]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "t", "--log_samples"], "error: Specify --output_path"),
        (["--tasks", "t", "--limit", "-3"], "error: --limit -3.0 is neither a whole number of 1 or more"),
        (["--tasks", "t", "--limit", "0"], "error: --limit 0.0 is neither a whole number of 1 or more"),
        (["--config", "nowhere.yaml"], "error: --config nowhere.yaml cannot be read"),
        (["--config", "broken.yaml"], "error: "),
        (["--config", "unknown.yaml"], "error: --config unknown.yaml: unknown argument 'taskz'. Did you mean tasks?"),
        (["--tasks", "t", "--output_path", "broken.yaml"], "error: --output_path broken.yaml cannot be made"),
        (["--tasks", "t", "--gen_kwargs", "greedy"], "error: --gen_kwargs: 'greedy' is not NAME=VALUE"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_the_command_line_refuses_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lmms_eval, "TaskManager", lambda *given, **named: None)  # reading all YAMLs takes seconds
    Path("broken.yaml").write_text("tasks: [unfinished")
    Path("unknown.yaml").write_text("taskz: t")
    assert main(["eval", *arguments]) == 2
    output = capfd.readouterr()
    assert words in output.err.strip().splitlines()[-1]
    assert "Traceback" not in output.out + output.err


def test_a_mistake_in_one_of_several_configurations_costs_only_that_one(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def inner(args: argparse.Namespace) -> Any:
        if args.tasks == "wrong":
            raise UserError("argument x is wrong")
        return scored()(args)

    monkeypatch.setattr(lmms_eval, "cli_evaluate_single", inner)
    config = tmp_path / "several.yaml"
    config.write_text("[{tasks: one}, {tasks: wrong}, {tasks: three}]")
    assert main(["eval", "--config", str(config)]) == 2
    output = capfd.readouterr()
    assert output.out.count("the table") == 2
    assert output.err.strip().splitlines()[-1] == "dualfocus eval: error: argument x is wrong"
