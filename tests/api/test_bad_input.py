"""What cannot be asked: one line that names it, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dualfocus_eval as df
from dualfocus_eval.api.asking import QuestionText, ask_about
from dualfocus_eval.method.images import FORMATS


@pytest.mark.parametrize(
    ("question", "options", "words"),
    [
        ("", None, "the question is empty"),
        (" \n", None, "the question is empty"),
        ("What?", ["red"], "'red' is the only one"),
        ("What?", ["red", "blue", "Red "], "'red' and 'Red' are equal"),
        ("What?", ["a", "a"], "'a' and 'a' are equal"),
        ("What?", ["red", " "], "number 2 is empty"),
        ("What?", "red", "options='red' is one text"),
        ("What?", [str(number) for number in range(27)], "27 are more than the 26 letters"),
    ],
)
def test_a_question_that_cannot_be_asked(question: str, options: Any, words: str) -> None:
    with pytest.raises(df.UserError, match=words) as error:
        QuestionText.of(question, options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4, 3)), *(np.zeros(shape, np.uint8) for shape in ((3, 8, 9), (0, 4, 3), (4,)))],
    ids=["floats", "channels first", "no pixels", "one axis"],
)
def test_an_array_that_is_no_image(pixels: Any) -> None:
    with pytest.raises(df.UserError, match=r"give \(height, width, 3\) in uint8"):
        ask_about(pixels, QuestionText.of("What?"))


def test_an_object_that_is_no_image() -> None:
    with pytest.raises(df.UserError, match="a list is no image"):
        ask_about([1, 2], QuestionText.of("What?"))  # type: ignore[arg-type]


def bad_images(folder: Path) -> dict[str, Path]:
    (folder / "text.jpg").write_text("not an image")
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    return {
        "No such file or directory": folder / "missing.png",
        f"no image in one of the formats {', '.join(FORMATS)}": folder / "text.jpg",
        "it is not a regular file": folder / "folder.png",
        "no image in one": folder / "empty.png",
    }


def test_an_image_that_cannot_be_opened_raises_or_costs_no_other(
    tmp_path: Path, photo: Path, model: df.Model
) -> None:  # fmt: skip
    bad = bad_images(tmp_path)
    for words, path in bad.items():
        with pytest.raises(df.UserError, match=f"{path.name}.*{words}"):
            model.ask(path, "What is written on the box?")
    answers = model.ask_batch([(path, "What is written on the box?") for path in (*bad.values(), photo)])
    for answer, path in zip(answers, bad.values(), strict=False):
        assert answer.failure
        assert (answer.failure.kind, answer.text, answer.selected) == ("bad_image", "", None)
        assert path.name in answer.why
        assert answer.to_dict()["failure"]["kind"] == "bad_image"
        assert answer._repr_png_() is None
        with pytest.raises(ValueError, match="nothing to draw"):
            answer.figure()
    assert answers[-1].text
    assert not answers[-1].failure


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_an_animation_is_named_unless_its_owner_chose_a_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    failure = ask_about(path, QuestionText.of("What?")).question.failure
    assert failure
    assert failure.kind == "several_frames"
    assert f"moving.{suffix} is an animation or has several pages" in failure.message
    with Image.open(path) as moving:
        moving.seek(1)
        asked = ask_about(moving, QuestionText.of("What?"))
    assert asked.question.images[0].pixels.getpixel((0, 0)) == (0, 0, 255)


def test_a_batch_names_the_question_at_fault(model: df.Model) -> None:
    with pytest.raises(df.UserError, match="question 2: the question is empty"):
        model.ask_batch([("a.png", "What?"), ("b.png", "")])
    with pytest.raises(df.UserError, match=r"question 1 is not \(image, question\)"):
        model.ask_batch(["a.png"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dtyp": "float32"}, "Did you mean dtype"),
        ({"pretrained": "./nowhere"}, "no such folder"),
        ({"pretrained": "nobody/nothing-of-this-name"}, "nobody/nothing-of-this-name"),
        ({"selection": "best"}, "selection"),
    ],
)
def test_a_model_that_cannot_be_loaded(
    arguments: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(df.UserError, match=words) as error:
        df.load(**arguments)
    assert "\n" not in str(error.value)


def test_an_old_name_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="selection=micro is now called micro_context"):
        assert df.load(selection="micro").settings.selection == "micro_context"
