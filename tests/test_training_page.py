"""The commands in README and docs: every one is one that the real parsers take, and its recipe is valid. What
docs/training.md reads is what an earlier command writes or what the page tells to put there."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser

from dualfocus_eval.cli.main import main
from dualfocus_eval.cli.train import plan_of
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.method.selection.calibration import CALIBRATION_FILE
from dualfocus_eval.recipe import load_recipe, recipe_names
from dualfocus_eval.training.tuning import TuningPlan

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text()
HEREDOC = re.compile(r"^cat > (\S+) <<END\n(.*?)^END\n", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The commands in the shell blocks of a page, a continued line as one."""
    return [
        line.replace("$(dualfocus models)", str(resource_folder("models")))
        for block in re.findall(r"^```bash\n(.*?)^```", text.replace(" \\\n", " "), re.DOTALL | re.MULTILINE)
        for line in re.findall(r"^((?:dualfocus|accelerate) .*?)(?: +#.*)?$", HEREDOC.sub("", block), re.MULTILINE)
    ]


COMMANDS = list(
    dict.fromkeys(
        command
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for command in commands(page.read_text(encoding="utf-8"))
    )
)


class Parsed(BaseException):
    """A command was understood; what it does is not done here."""


@pytest.fixture(autouse=True)
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        found = parse(self, *args, **kwargs)
        if self.prog not in ("dualfocus", "dualfocus data"):
            raise Parsed(found)
        return found

    def forwarded(argv: list[str], after: Any) -> None:
        tasks = {path.stem for path in resource_folder("tasks").glob("*/*.yaml")}
        assert set(argv[argv.index("--tasks") + 1].split(",")) <= tasks
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr("dualfocus_eval.cli.eval.run_lmms_eval", forwarded)


def understood(words: list[str]) -> Any:
    """What a command's parser makes of it; an argument that it does not know ends the test."""
    with pytest.raises(Parsed) as found:
        main(words)
    return found.value.args[0] if found.value.args else None


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_recipes(tmp_path)
    for recipe in re.findall(r"recipe=([\w.-]+)", command):
        (load_recipe(recipe).trained or tmp_path).mkdir(parents=True, exist_ok=True)
    for choice in re.findall(r"selection=([\w.-]+\.json)", command):
        shutil.copyfile(resource_folder("models") / EMBEDDED_CHECKPOINT / CALIBRATION_FILE, tmp_path / choice)
    words = shlex.split(command)
    if words[0] == "accelerate":
        with pytest.raises(Parsed) as launched:
            launch_command_parser().parse_args(words[2:])
        launch = launched.value.args[0]
        assert launch.config_file is None or Path(launch.config_file).is_file()
        assert launch.module
        assert launch.training_script == "dualfocus_eval"
        words = ["dualfocus", *launch.training_script_args]
    options = understood(words[1:])
    if words[1] == "train":
        assert plan_of(load_recipe(options.recipe)).stages
    if getattr(options, "recipe", None) and words[1] != "train":
        load_recipe(options.recipe)


def write_recipes(folder: Path) -> None:
    for name, content in HEREDOC.findall(PAGE):
        (folder / name).write_text(content)


def test_what_training_reads_is_written_or_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_recipes(tmp_path)
    listed = "".join(re.findall(r"^\|.*", PAGE, re.MULTILINE)) + "".join(re.findall(r"`data/[^`]+`", PAGE))
    words = [shlex.split(command) for command in commands(PAGE)]
    made = [understood(line[1:]) for line in words if line[1:3] == ["data", "vg"]]
    converted = [line[4] for line in words if line[1:3] == ["convert", "llava"]]
    trained = [line[line.index("train") :] for line in words if "train" in line]
    assert trained
    for line in trained:
        options = understood(line)
        plan = plan_of(load_recipe(options.recipe))
        assert isinstance(plan, TuningPlan)
        assert not plan.base.startswith("./") or plan.base.removeprefix("./") in converted
        for source in (source for stage in plan.stages for source in stage.data):
            path, images = options.data / source.file, options.data / source.images
            crops = [found for found in made if found.out / "samples.json" == path and found.images == images]
            assert crops or path.name in listed, (line, source.file)


def test_the_page_has_commands_for_every_trained_recipe() -> None:
    shown = [*COMMANDS, *re.findall("`([^`\n]+)`", PAGE)]
    for name in recipe_names():
        if load_recipe(name).train:
            assert any(f"train {name}" in line for line in shown)
