"""``dualfocus ask``: what it prints, its pictures, and its exit status for everything that can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lmms_eval import tasks
from PIL import Image

import dualfocus_eval as df
from dualfocus_eval.api import model as api_model
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.documents import question_named
from tests.api.conftest import example, model, photo, scenes

__all__ = ["example", "model", "photo", "scenes"]

QUESTION = ["--question", "What is written on the box?"]


@pytest.fixture
def loaded(model: df.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded checkpoint as the other tests have loaded it, whatever is asked for."""
    monkeypatch.setattr(api_model, "load", lambda **arguments: model)


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**arguments: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(api_model, "load", load)


def test_the_first_try_needs_no_argument_and_json_is_all_that_is_printed(example: df.Answer) -> None:
    command = [sys.executable, "-m", "dualfocus_eval", "ask", "--json"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["answer"], found["selected"], found["macro"]["text"]) == ("K", "micro", "X")
    assert found["image"] == "embedded scene scene-20240222-000000"
    assert found["macro"]["nll"] == pytest.approx(example.to_dict()["macro"]["nll"], abs=1e-4)


@pytest.mark.usefixtures("loaded")
def test_the_answers_are_printed_and_drawn(
    photo: Path, example: df.Answer, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    out = photo.with_name("answer.png")
    assert main(["ask", str(photo), *QUESTION, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "the embedded checkpoint knows drawn scenes only" in said.out
    assert example.macro
    assert example.micro
    assert example.compared
    for words in (
        "photo.png: What is written on the box?",
        "box: [0.01, 0.54, 0.30, 0.79], pixels 4, 276 to 115, 404",
        "sub-region: pixels 0, 264 to 136, 417 (136 x 153)",
        f"X {example.macro.perplexity:.3f} {example.compared[0]:.3f}",
        f"K {example.micro.perplexity:.3f} {example.compared[1]:.3f}",
        "selected: K, the micro answer",
        f"why: {example.why}",
        "picture: ",
    ):
        assert words in " ".join(said.out.split())
    with Image.open(out) as picture:
        assert picture.format == "PNG"


@pytest.mark.usefixtures("loaded")
def test_a_question_of_a_task_is_asked_as_the_evaluation_asks_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--doc", "df_pope_mini_random/3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["image"], found["answer"]) == ("df_pope_mini_random/3", "no")
    assert "single word or phrase" in question_named("df_pope_mini_random/3").prompt


def test_a_task_that_scores_given_answers_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmms_eval.api.task import ConfigurableTask

    get = tasks.get_task_dict

    def likelihoods(*given: Any) -> dict[str, ConfigurableTask]:
        found: dict[str, ConfigurableTask] = get(*given)
        found["df_scenes_mini"].OUTPUT_TYPE = "multiple_choice"
        return found

    monkeypatch.setattr(tasks, "get_task_dict", likelihoods)
    with pytest.raises(UserError, match="scores given answers"):
        question_named("df_scenes_mini/0")


@pytest.mark.usefixtures("loaded")
def test_of_several_images_a_bad_one_costs_no_other(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, moving = photo.with_name("missing.png"), photo.with_name("moving.gif")
    frames = [Image.new("RGB", (60, 60), color) for color in ("red", "blue")]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    images = [str(path) for path in (missing, moving, photo)]
    assert main(["ask", *images, *QUESTION, "--out", str(photo.with_name("out.png"))]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"dualfocus ask: {missing}: No such file or directory",
        f"dualfocus ask: {moving} is an animation or has several pages: save one frame as an image",
    ]
    assert said.out.count("selected: ") == 1
    assert sorted(path.name for path in photo.parent.glob("out*")) == ["out-3.png"]
    assert main(["ask", *images, *QUESTION, "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == images
    assert [bool(line["failure"]) for line in lines] == [True, True, False]


@pytest.mark.usefixtures("not_loaded")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png", *QUESTION], "missing.png: No such file or directory"),
        (["text.jpg", *QUESTION], "text.jpg: no image in one of the formats"),
        (["moving.gif", *QUESTION], "moving.gif is an animation or has several pages"),
        ([".", *QUESTION], ".: it is not a regular file"),
        (["text.jpg", "missing.png", *QUESTION], "text.jpg: no image in one of"),
        (["photo.png", "--question", " "], "the question is empty"),
        (["photo.png"], "--question is missing"),
        (QUESTION, "there is no image"),
        (["photo.png", *QUESTION, "--options", "red"], "'red' is the only one"),
        (["photo.png", *QUESTION, "--options", "red,blue, RED"], "'red' and 'RED' are equal"),
        (["photo.png", *QUESTION, "--options", "red,"], "number 2 is empty"),
        (["photo.png", *QUESTION, "--options", ""], "the only one"),
        (["photo.png", *QUESTION, "--out", "picture.jpg"], "name a file that ends in .png"),
        (["photo.png", *QUESTION, "--out", "text.jpg/x.png"], "--out text.jpg/x.png cannot be written"),
        (["photo.png", *QUESTION, "--model_args", "dtyp=float32"], "Did you mean dtype"),
        (["photo.png", *QUESTION, "--model_args", "dtype"], "'dtype' is not NAME=VALUE"),
        (["--doc", "df_scenes_mini"], "names no question: write TASK/NUMBER"),
        (["--doc", "df_scenes_mini/-1"], "names no question"),
        (["--doc", "df_scenes_mini/100000"], "counted from 0"),
        (["--doc", "no_such_task/0"], "task no_such_task cannot be loaded"),
        (["--doc", "df_scenes_mini/0", "photo.png"], "leave IMAGE, --question and --options out"),
    ],
)
def test_mistakes_are_one_line_and_load_no_model(
    arguments: list[str], words: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photo.parent)
    Path("text.jpg").write_text("not an image")
    frames = [Image.new("RGB", (60, 60), color) for color in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    assert main(["ask", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("dualfocus ask: error: ")
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["./nowhere", "nobody/nothing-of-this-name"])
def test_a_model_that_does_not_exist_is_named(
    name: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["ask", str(photo), *QUESTION, "--model_args", f"pretrained={name}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"dualfocus ask: error: {name}: ")
    assert said.err.count("\n") == 1
