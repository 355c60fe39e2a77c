"""The command lines of every experiment: lmms-eval's own parser reads them, and equal runs are one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.__main__ import parse_eval_args
from lmms_eval.utils import simple_parse_args_string

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.arguments import check
from dualfocus_eval.paper import NAMES
from dualfocus_eval.paper.experiment import Request
from dualfocus_eval.paper.experiments import EXPERIMENTS
from dualfocus_eval.paper.planning import PlannedRun, plan_runs

OUT = Path("a folder with spaces")
NAMED = {"other_model_args": "pretrained=other,dtype=float32", "detector": "some/detector"}


def plans(name: str, **given: Any) -> list[PlannedRun]:
    return plan_runs(EXPERIMENTS[name], Request(OUT, **(NAMED | given)))


def parsed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["lmms-eval", "--model", "dualfocus", *command])
    return vars(parse_eval_args()[1])


def test_every_name_is_an_experiment() -> None:
    assert tuple(EXPERIMENTS) == NAMES
    tasks = {path.stem for path in resource_folder("tasks").rglob("*.yaml")}
    assert {task for experiment in EXPERIMENTS.values() for task in experiment.tasks} <= tasks


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_can_be_pasted(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--other_model_args", NAMED["other_model_args"], "--detector", NAMED["detector"], "--limit", "7"]
    assert main(["reproduce", name, "--out", str(OUT), "--dry-run", *given, "--model_args", "dtype=float32"]) == 0
    commands = [shlex.split(line, comments=True) for line in capsys.readouterr().out.splitlines()]
    runs = [command[2:] for command in commands if command[:2] == ["dualfocus", "eval"]]
    assert runs
    assert not OUT.exists()
    for command in runs:
        read = parsed(command, monkeypatch)
        assert read["tasks"].split(",") == list(EXPERIMENTS[name].tasks)
        assert (read["limit"], read["log_samples"], int(read["batch_size"])) == (7, True, 16)
        assert Path(read["output_path"]).parent == OUT / "runs"
        arguments = simple_parse_args_string(read["model_args"])
        assert arguments["dtype"] == "float32"
        check(({"pretrained": "trained"} if "recipe" in arguments else {}) | arguments)


def test_most_experiments_share_one_run() -> None:
    folders = {name: [plan.folder for plan in plans(name)] for name in NAMES}
    shared = ("table1", "table2", "table3", "table4", "table9", "figure3", "figure4", "figure5")
    assert len({tuple(folders[name]) for name in shared}) == 1
    assert folders["table7"][0] == folders["table1"][0]
    assert [len(folders[name]) for name in ("table5", "table6", "table7", "table8", "table11")] == [4, 2, 2, 4, 2]


def test_other_arguments_are_other_runs() -> None:
    (plain,) = plans("table1")
    for given in ({"limit": 3}, {"tasks": "df_paper"}, {"model_args": "dtype=float32"}, {"batch_size": 1}):
        (other,) = plans("table1", **given)
        assert other.folder != plain.folder
        assert f"trace_dir={OUT}/traces" in other.model_args


def test_only_the_run_whose_time_counts_reuses_nothing() -> None:
    two, alone = plans("table7")
    assert "trace_dir" in two.model_args
    assert "trace_dir" not in alone.model_args


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("table1", {"model_args": "strategy=macro"}, "--model_args: table1 sets strategy itself"),
        ("table1", {"model_args": "dtype=float32, trace_dir=here"}, "table1 sets trace_dir itself"),
        ("table5", {"model_args": "jitter=3"}, "table5 sets jitter itself"),
        ("table8", {"other_model_args": "score_all=false"}, "--other_model_args: table8 sets score_all itself"),
        ("table6", {"other_model_args": ""}, "table6 compares the model with a LLaVA-NeXT.* --other_model_args"),
        ("table11", {"detector": ""}, "table11 replaces the model's boxes .* --detector"),
        ("table10", {"model_args": "pretrained=x"}, "table10 compares two trainings of a recipe"),
        ("table10", {"model_args": "recipe=qwen3-vl-8b", "recipe": "qwen3-vl-8b"}, "take recipe=dualfocus-tiny or"),
    ],
)
def test_what_an_experiment_sets_or_lacks_is_named(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plans(name, **given)


def test_a_comma_in_the_folder_is_refused() -> None:
    with pytest.raises(UserError, match="a comma would end a model argument"):
        plan_runs(EXPERIMENTS["table1"], Request(Path("one,two")))


def test_trainings_are_printed_with_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--dry-run", "--out", str(OUT), "--model_args", "recipe=llava-1.5-7b"]
    assert main(["reproduce", "table10", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "# 809,276 samples, 27 H100 hours",
        "dualfocus train llava-1.5-7b --data data",
        "# 665,298 samples, 20 H100 hours",
        "dualfocus train llava-1.5-7b-without-vg --data data",
    ]
    with_samples, without = lines[4:]
    assert "--model_args recipe=llava-1.5-7b,strategy=dualfocus" in with_samples.replace("'", "")
    assert "--model_args recipe=llava-1.5-7b-without-vg,strategy=macro" in without.replace("'", "")


def test_the_commands_of_the_page_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    commands = re.findall(r"^dualfocus (reproduce .*)$", page, re.MULTILINE)
    assert {command.split()[1] for command in commands} >= {
        "table1",
        *(f"table{number}" for number in (5, 6, 7, 8, 11)),
    }
    for command in commands:
        assert main([*shlex.split(command), *([] if "--dry-run" in command else ["--dry-run"])]) == 0
        assert "dualfocus eval" in capsys.readouterr().out
    assert set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)) >= {
        ("table1", "table2"), ("table5", ""), ("figure5", ""),
    }  # fmt: skip
