"""What a conversion leaves: complete or nothing, and ready for this package's engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dualfocus_eval.cli.main import main
from dualfocus_eval.convert import llava
from dualfocus_eval.engines.base import GenerateRequest, Message, Picture
from dualfocus_eval.engines.in_process import load_engine
from dualfocus_eval.harness.arguments import resolve
from measurements.original_llava import Original, write_checkpoint

EMBEDDINGS = {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Original]:
    folder = tmp_path_factory.mktemp("original") / "DualFocus-Test"
    return folder, write_checkpoint(folder, suffix="bin")


def converted(source: Path, out: Path, *options: str) -> Path:
    assert main(["convert", "llava", str(source), str(out), "--vision-tower", str(source / "tower"), *options]) == 0
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {name: load_file(folder / name) for name in set(index["weight_map"].values())}
    assert {path.name for path in folder.glob("*.safetensors")} == set(files)
    assert index["metadata"]["total_size"] == sum(t.nbytes for file in files.values() for t in file.values())
    return {key: files[name][key] for key, name in index["weight_map"].items()}


def test_a_killed_conversion_is_begun_again(original: tuple[Path, Original], tmp_path: Path) -> None:
    source, out = original[0], tmp_path / "out"
    code = (
        "import os, signal, sys\n"
        "from dualfocus_eval.cli.main import main\n"
        "from dualfocus_eval.convert import llava\n"
        "save, calls = llava.save_file, []\n"
        "def killed(*args, **kwargs):\n"
        "    calls.append(save(*args, **kwargs))\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "llava.save_file = killed\n"
        "main(sys.argv[1:])"
    )
    arguments = ["convert", "llava", str(source), str(out), "--vision-tower", str(source / "tower")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    left = tmp_path / "out.unfinished-conversion"
    assert [path.name for path in tmp_path.iterdir()] == [left.name]
    assert len(list(left.glob("*.safetensors"))) == 2
    assert not (left / "config.json").exists()
    (left / "model-00009-of-00009.safetensors").touch()
    out.mkdir()  # an empty folder is as good as none
    converted(source, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    buffers = 2
    assert len(weights(out)) == len(original[1].state(with_tower=True)) - buffers


def test_a_failure_gives_the_space_back(
    original: tuple[Path, Original], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(llava, "save_file", full)
    arguments = [str(original[0]), str(tmp_path / "out"), "--vision-tower", str(original[0] / "tower")]
    assert main(["convert", "llava", *arguments]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_new_tokens_have_the_mean_row(original: tuple[Path, Original], tmp_path: Path) -> None:
    found = weights(converted(original[0], tmp_path / "out"))
    before = original[1].decoder.state_dict()
    for name, old in {name: before[name.removeprefix("language_model.")] for name in EMBEDDINGS}.items():
        assert found[name].shape == (512, old.shape[1])
        assert torch.equal(found[name][: len(old)], old)
        torch.testing.assert_close(found[name][len(old) :], old.mean(0).expand(512 - len(old), -1))
    assert all(name in EMBEDDINGS or name.startswith(("language_model.model.", "multi_", "vision_")) for name in found)


def test_large_files_are_split(
    original: tuple[Path, Original], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights(converted(original[0], tmp_path / "whole"))
    monkeypatch.setattr(llava, "_FILE_BYTES", 40_000)
    split = weights(converted(original[0], tmp_path / "split"))
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > len(list((tmp_path / "whole").glob("*.safetensors")))
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)


def test_the_vision_tower_takes_the_models_type(tmp_path: Path) -> None:
    """As in the original code, which loads the frozen tower in half precision; files of old versions of torch too."""
    source = tmp_path / "source"
    model = write_checkpoint(source, suffix="bin", shards=1, with_tower=False)
    halves = {key: value.half() for key, value in model.state(with_tower=False).items()}
    torch.save(halves, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    whole = {f"vision_model.{key}": value for key, value in model.tower.state_dict().items()}
    (source / "tower" / "model.safetensors").unlink()
    whole |= {"logit_scale": torch.tensor(1.0), "text_model.embeddings.position_ids": torch.arange(4)}
    torch.save(whole, source / "tower" / "pytorch_model.bin")
    out = converted(source, tmp_path / "out")
    found = weights(out)
    assert {value.dtype for value in found.values()} == {torch.float16}
    name = "vision_tower.vision_model.post_layernorm.bias"
    assert torch.equal(found[name], model.tower.state_dict()["post_layernorm.bias"].half())
    assert json.loads((out / "config.json").read_text())["dtype"] == "float16"
    sources = json.loads((out / "dualfocus.json").read_text())["provenance"]["sha256"]
    assert list(sources) == ["source/pytorch_model.bin", "tower/pytorch_model.bin"]


def test_it_answers_as_the_released_checkpoints_do(original: tuple[Path, Original], tmp_path: Path) -> None:
    out = converted(original[0], tmp_path / "out")
    config = resolve({"pretrained": str(out)})
    settings = config.settings
    assert (settings.prompt_set, settings.box_convention, settings.box_frame) == ("released", "unit", "image")
    assert (settings.crop, settings.margin, settings.selection) == ("released", 25.0, "released")
    assert config.sources["selection"] == "checkpoint"
    provenance = json.loads((out / "dualfocus.json").read_text())["provenance"]
    assert provenance["converted_from"] == "DualFocus-Test"
    assert provenance["mm_vision_tower"] == "openai/clip-vit-large-patch14-336"
    assert len(provenance["sha256"]) == 3
    assert str(tmp_path) not in json.dumps(provenance)

    engine = load_engine(config.engine)
    picture = Picture(Image.effect_noise((40, 30), 90).convert("RGB"))
    request = GenerateRequest((Message("user", (picture, "what colour is it?")),), 5)
    (first,) = engine.generate([request])
    crop = Picture(Image.effect_noise((20, 30), 90).convert("RGB"))
    told = Message("assistant", (first.text,), first.token_ids)
    (second,) = engine.generate([GenerateRequest((*request.conversation, told, Message("user", (crop, "and?"))), 5)])
    assert first.token_ids
    assert second.token_ids


def test_another_recipes_settings(original: tuple[Path, Original], tmp_path: Path) -> None:
    out = converted(original[0], tmp_path / "out", "--recipe", "llava-1.5-7b-base")
    assert resolve({"pretrained": str(out)}).settings.box_frame == "padded_square"


def test_every_file_is_readable_by_others(original: tuple[Path, Original], tmp_path: Path) -> None:
    out = converted(original[0], tmp_path / "out")
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1
