"""``dualfocus train RECIPE --dry-run`` on a small LLaVA and a few samples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from dualfocus_eval.cli.train import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.recipe import load_recipe
from dualfocus_eval.training.dry_run import dry_run
from dualfocus_eval.training.tuning import tuning_plan
from measurements.random_models import build
from tests.tiny.training.test_stages import RECIPE as SCRATCH

RECIPE = """
inference: {margin: 12, image_aspect: pad}
train:
  base: BASE
  stages:
    - name: finetune
      objective: instructions
      data: [{file: dualfocus/samples.json, images: images}, {file: mix.json, images: images, weight: 0.5}]
      batch_size: 4
      micro_batch_size: 2
      learning_rate: 0.001
      freeze: [vision_tower]
      max_length: 400
"""


def said(*turns: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(turns)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a recipe, and a base whose weights nobody can load."""
    folder = tmp_path_factory.mktemp("dry")
    model, processor = build("llava")
    processor.chat_template = FAMILIES["llava"].training_template
    processor.save_pretrained(folder / "base")
    model.config.save_pretrained(folder / "base")
    (folder / "base" / "model.safetensors").write_bytes(b"no weights")
    for name in ("images/a.png", "dualfocus/crops/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name)
    two_rounds = said(
        "<image>\nPlease provide the bounding box coordinate of the region this question asks: is there a cup?",
        "[0.25, 0.50, 0.75, 1.00]",
        "<image>\nPlease combine the information from these two images and answer this question: is there a cup?",
        "a red cup",
    )
    samples = [{"image": "a.png", "sub_image": "crops/a.png", "conversations": two_rounds}] * 6
    plain = [{"image": "a.png", "conversations": said("<image>\nwhat colour?", "blue")}] * 10
    text = [{"conversations": said("yes or no?", "no")}] * 2
    bad = [
        {"image": "gone.png", "conversations": said("<image>\nwhat?", "blue")},
        {"conversations": said("what?", "red cup " * 300)},
    ]
    (folder / "dualfocus" / "samples.json").write_text(json.dumps(samples))
    (folder / "mix.json").write_text(json.dumps(plain + text + bad))
    (folder / "mine.yaml").write_text(RECIPE.replace("BASE", str(folder / "base")))
    return folder


def test_it_counts_estimates_and_shows_without_loading_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(folder / "mine.yaml"), "--data", str(folder), "--out", str(tmp_path / "run"), "--dry-run"]
    assert main(arguments) == 1  # a sample's image is missing
    shown = capsys.readouterr().out
    # Six of one file; of the other's 13 that can be read half, which the long one may be among.
    assert re.search(r"dualfocus/samples.json +6 ", shown)
    assert re.search(r"mix.json +[56] ", shown)
    assert re.search(r"samples +1[12] *\n", shown)
    assert re.search(r"steps +3 *\n", shown)
    assert re.search(r"FLOPs +\d\.\d\de\+\d\d", shown)
    assert "zero3" in shown
    assert "<image: 16 tokens>" in shown
    assert "[ [0.25, 0.50, 0.75, 1.00]</s>]" in shown
    assert "[ a red cup</s>]" in shown
    assert "[ blue</s>]" in shown or "[ no</s>]" in shown
    assert "images/gone.png is missing" in shown
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_boxes_and_answers_are_of_different_colours(folder: Path, tmp_path: Path) -> None:
    console = Console(record=True, force_terminal=True, color_system="truecolor", width=120)
    recipe = load_recipe(folder / "mine.yaml")
    with console.capture() as captured:
        dry_run(recipe, tuning_plan(recipe), folder, tmp_path, console)
    shown = captured.get()
    assert re.search(r"\x1b\[1;35m\[ \[0\.25", shown)
    assert re.search(r"\x1b\[1;32m\[ a red cup", shown)
    assert re.search(r"\x1b\[2m<image: 16 tokens>", shown)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BASE", "/no/such/folder", "no such folder"),
        ("mix.json", "gone.json", "gone.json is missing"),
        ("max_length: 400", "max_length: 5", "longer than max_length 5"),
        (
            "{file: dualfocus/samples.json, images: images}, {file: mix.json, images: images, weight: 0.5}",
            "{file: mix.json, images: images, weight: 0.001}",
            "the weights leave no sample of 13",
        ),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace(old, new).replace("BASE", str(folder / "base")))
    with pytest.raises(UserError, match=message):
        main([str(path), "--data", str(folder), "--out", str(tmp_path / "run"), "--dry-run"])


def written(folder: Path, tmp_path: Path, rows: list[dict[str, Any]], settings: str = "") -> list[str]:
    """The arguments of a dry run for ``rows`` alone, with further settings of the stage."""
    text = re.sub(r"data: .*", "data: [{file: rows.json, images: images}]", RECIPE).replace(
        "BASE", str(folder / "base")
    )
    (tmp_path / "mine.yaml").write_text(f"{text}      {settings}\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return [str(tmp_path / "mine.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--dry-run"]


def test_memory_is_for_the_longest_sample_in_any_order(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualfocus_eval.training.dry_run._PROBES", 1)
    rows = [{"conversations": said("what?", "red " * number)} for number in (1, 2, 90, 3, 4)]
    main(written(folder, tmp_path, rows, "group_by_length: false"))
    (tokens,) = re.findall(r"samples of (\d+) tokens", capsys.readouterr().out)
    assert int(tokens) > 90


def test_a_lone_sample_is_shown_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(written(folder, tmp_path, [{"conversations": said("what?", "red")}]))
    assert capsys.readouterr().out.count("[ red</s>]") == 1


def test_images_that_cannot_be_decoded_are_named(folder: Path, tmp_path: Path) -> None:
    arguments = written(folder, tmp_path, [{"image": "cut.jpg", "conversations": said("<image>\nwhat?", "red")}])
    path = tmp_path / "images" / "cut.jpg"
    Image.effect_noise((40, 30), 99).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"none of 1 samples that were tried has readable images; rows\.json, entry 1"):
        main(arguments)


def test_training_from_nothing_is_estimated_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SCRATCH)
    assert main([str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    vision, close_ups, mix, existence = shown.split("Stage ")[1:]
    # 16 scenes give 2 images each, then 4; one conversation each.
    for part, samples, tokens, steps in ((vision, 32, 32 * 16, 4), (close_ups, 64, 64 * 16, 8)):
        assert re.search(rf"samples +{samples} *\n", part)
        assert re.search(rf"tokens +{tokens:,} *\n", part)
        assert re.search(rf"steps +{steps} *\n", part)
        assert "name: [?]" in part
        assert part.count("place: ") + part.count("mark_shape: ") >= 3
    for part, samples, steps in ((mix, 16, 2), (existence, 8, 1)):
        assert re.search(rf"samples +{samples} *\n", part)
        assert re.search(rf"steps +{steps} *\n", part)
        assert "<image: 16 tokens>" in part
        assert re.search(r"\[\[\d\.\d\d, .*\]</s>\]", part)
    for part in (vision, close_ups, mix, existence):
        assert re.search(r"FLOPs +\d\.\d\de\+\d\d", part)
        assert "optimiser" in part
    assert not (tmp_path / "run").exists()


def test_the_steps_are_those_that_the_embedded_checkpoint_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dualfocus-tiny", "--dry-run"]) == 0
    log = json.loads((resource_folder("models") / "dualfocus-tiny" / "training.json").read_text())
    steps = [int(number.replace(",", "")) for number in re.findall(r"steps +([\d,]+)", capsys.readouterr().out)]
    assert steps == [stage["steps"] for stage in log]


def test_the_samples_measured_are_those_of_the_run(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    arguments = [str(folder / "mine.yaml"), "--data", str(folder), "--out", str(tmp_path), "--dry-run"]
    main(arguments)

    def read_again(*_: Any) -> Any:
        raise AssertionError("the data were read again")

    monkeypatch.setattr("dualfocus_eval.training.samples.read_records", read_again)
    assert main(arguments) == 1
