import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.resources import resource_folder

HEAVY = ("torch", "transformers", "datasets", "lmms_eval", "accelerate", "pandas")


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        ([], 2, "commands:"),
        (["--help"], 0, "evaluate a model"),
        (["--version"], 0, "dualfocus-eval "),
        (["evaluate"], 2, "invalid choice: 'evaluate'"),
        (["convert", "llava", "--help"], 0, "--vision-tower PATH"),
        (["convert", "llava", "nowhere", "out"], 2, "nowhere: no such folder"),
        (["ask", "--help"], 0, "FILE-1.png, FILE-2.png"),
        (["ask", "photo.jpg"], 2, "--question is missing"),
        (["ask", "nowhere.jpg", "--question", "What?"], 2, "nowhere.jpg: No such file"),
        (["eval"], 2, "--tasks is missing"),
        (["tasks"], 0, "df_pope_mini"),
        (["eval", "--help"], 0, "exit status: 0"),
        (["sweep", "--help"], 0, "shifted:jitter=25"),
        (["sweep", "--tasks", "x", "--out", "y", "--grounding", "text_bax"], 2, "Did you mean text_box?"),
        (["compare", "--help"], 0, "McNemar's test"),
        (["compare", "nowhere", "."], 2, "there is no run nowhere"),
        (["join", "--help"], 0, "by perplexity"),
        (["join", "nowhere", "."], 2, "there is no run nowhere"),
        (["reproduce", "--help"], 0, "Runs that are finished are not made again"),
        (["reproduce", "table12"], 2, "invalid choice: 'table12'"),
        (["reproduce", "table1", "--model_args", "macro"], 2, "'macro' is not NAME=VALUE"),
        (["regress", "--help"], 0, "exit status: 0 within"),
        (["regress", "nowhere", "--baseline", "pyproject.toml"], 2, "there is no run nowhere"),
        (["regress", ".", "--baseline", "nowhere.json"], 2, "or name an included baseline: df_pope_mini"),
        (["models", "llava-1.5-7b"], 0, "gb per device"),
        (["models", "qwen3-vl-8b-base"], 0, "1310720"),
        (["models", "--help"], 0, "smolvlm2-2.2b-base"),
        (["models", "llava"], 2, "neither a file nor one of"),
        (["eval", "--tasks", "x", "--model_args", "strategi=macro"], 2, "Did you mean strategy?"),
        (["eval", "--tasks", "x", "--model_args", "macro"], 2, "'macro' is not NAME=VALUE"),
        (
            ["eval", "--tasks", "x", "--model_args", "selection=best"],
            2,
            "not one of: own_context, micro_context, released",
        ),
        (["eval", "--tasks", "x", "--model_args", "recipe=nope"], 2, "neither a file nor one of"),
    ],
)
def test_help_and_mistakes_are_answered_without_heavy_imports(argv: list[str], status: int, words: str) -> None:
    code = (
        "import sys; from dualfocus_eval.cli.main import main\n"
        f"try: status = main({argv!r})\n"
        "except SystemExit as stop: status = stop.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("eval", "interrupted; the answers so far are stored, and the same command resumes there"),
        ("demo", "interrupted; the answers so far are stored, and the same command resumes there"),
        ("report", "interrupted"),
    ],
)
def test_an_interruption_is_one_line(
    command: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"dualfocus_eval.cli.{command}.main", interrupted)
    assert main([command]) == 130
    assert capsys.readouterr().err == f"dualfocus {command}: {line}\n"


def test_the_tasks_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines()}
    assert set(rows) == {path.stem for path in resource_folder("tasks").rglob("*.yaml")}
    assert rows["df_pope_mini_random"] == ["360", "nothing, it is embedded"]
    assert rows["df_pope_mini"] == ["1080", "df_pope_mini_random, df_pope_mini_popular, df_pope_mini_adversarial"]
    hub = "lmms-lab-encoder/POPE from the hub, or dualfocus data prepare pope --source DIR"
    assert rows["df_pope_random"] == ["3000", hub]
    assert rows["df_pope_gqa_random"] == ["3000", "dualfocus data prepare pope-gqa --source DIR"]
    assert int(rows["df_paper"][0]) == 14233 + 4377 + 12578 + 5000 + 9000


def test_the_tasks_folder_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--path"]) == 0
    assert capsys.readouterr().out.strip() == str(resource_folder("tasks"))


def test_a_recipe_shows_its_expected_scores_and_its_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{expected: {df_gqa_mcq: 69.3}, estimate: {steps: 6323, gpu: H100, gpu_hours: 27.5}}")
    assert main(["models", str(path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (["df_gqa_mcq", "69.3"], ["steps", "6,323"], ["gpu", "H100"], ["gpu", "hours", "27.5"]):
        assert row in rows
    path.write_text("inference: {margin: 12}")
    assert main(["models", str(path)]) == 0
    assert capsys.readouterr().out.split() == [str(path), "Settings", "argument", "value", "─" * 14, "margin", "12.0"]
