"""What cannot be converted is refused by name, with the way out, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualfocus_eval.cli.main import main
from measurements.original_llava import write_checkpoint

SHARD = "model-00002-of-00003.safetensors"
PROJECTOR = "model.mm_projector.0.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "source"
    write_checkpoint(folder)
    return folder


@pytest.fixture
def source(sound: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "source"))


def configured(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(content))

    return spoil


def reweighted(
    change: Callable[[dict[str, torch.Tensor]], object], holder: str | None = None
) -> Callable[[Path], None]:
    """Change the weights of the shard that holds the weight ``holder``, else of the second one."""

    def spoil(folder: Path) -> None:
        index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        path = folder / (index[holder] if holder else SHARD)
        weights = load_file(path)
        change(weights)
        save_file(weights, path)

    return spoil


def only(*names: str) -> Callable[[Path], None]:
    """No weights but empty files of these names."""

    def spoil(folder: Path) -> None:
        for path in folder.glob("model*"):
            path.unlink()
        for name in names:
            (folder / name).touch()

    return spoil


def put(name: str, content: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(content)

    return spoil


NESTED = "[" * 100_000 + "]" * 100_000


class Command:
    """What a pickle can do to those who load it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("code-was-run",)


def pickled(content: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        only()(folder)
        torch.save(content, folder / "pytorch_model.bin")

    return spoil


CASES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "missing": (
        reweighted(lambda weights: weights.pop(PROJECTOR), PROJECTOR),
        [f"{PROJECTOR} is missing from model-0000", "download that again"],
    ),
    "missing in several": (
        reweighted(lambda weights: weights.clear()),
        ["more are missing from model-00002-of-00003.safetensors"],
    ),
    "unknown": (
        reweighted(lambda weights: weights.update({"model.image_newline": torch.ones(3)})),
        [f"{SHARD}: model.image_newline is not of LLaVA-1.5's architecture"],
    ),
    "shape": (
        reweighted(lambda weights: weights.update({PROJECTOR: torch.ones(48, 16)}), PROJECTOR),
        [f"{PROJECTOR} has shape (48, 16), the configuration asks for (48, 32)", "same release"],
    ),
    "double": (
        reweighted(lambda weights: weights.update({"lm_head.weight": torch.ones(3)})),
        ["lm_head.weight is also in model-0000", "remove the file"],
    ),
    "quantised": (
        reweighted(lambda weights: weights.update({PROJECTOR: torch.ones(48, 32).to(torch.int8)}), PROJECTOR),
        [f"{PROJECTOR} is of type I8", "float16, bfloat16 and float32"],
    ),
    "code": (
        pickled({"model.norm.weight": Command()}),
        ["pytorch_model.bin: refused, as loading it would run code (posix.mkdir)", "safetensors"],
    ),
    "no tensors": (pickled({"step": 3}), ["pytorch_model.bin: other than tensors by name"]),
    "damaged pickle": (
        lambda folder: (only()(folder), (folder / "pytorch_model.bin").write_bytes(b"no pickle" * 9)),
        ["pytorch_model.bin: not a file of weights, or damaged; download it again"],
    ),
    "cut off": (
        lambda folder: os.truncate(folder / SHARD, 1000),
        [f"{SHARD}: not a file of weights, or damaged; download it again"],
    ),
    "shard lost": (
        lambda folder: (folder / SHARD).unlink(),
        [f"1 of 3 weight files are missing: {SHARD}; download them"],
    ),
    "index": (
        lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}'),
        ["weight_map must give a file of this folder"],
    ),
    "no weights": (only(), ["no weights; one of these is needed: model.safetensors.index.json"]),
    "LoRA": (
        only("adapter_model.bin", "non_lora_trainables.bin"),
        ["a LoRA checkpoint (adapter_model.bin, non_lora_trainables.bin)", "merge it into the base"],
    ),
    "projector": (only("mm_projector.bin"), ["only a projector", "finished model"]),
    "no config": (lambda folder: (folder / "config.json").unlink(), ["config.json is missing"]),
    "hub layout": (
        configured(architectures=["LlavaForConditionalGeneration"]),
        ["in the hub's layout already; use it as pretrained="],
    ),
    "architecture": (
        configured(architectures=["LlavaMptForCausalLM"]),
        ["LlavaMptForCausalLM cannot be converted; only: LlavaLlamaForCausalLM, Share4VLlamaForCausalLM"],
    ),
    "projector type": (configured(mm_projector_type="linear"), ["mm_projector_type is 'linear'", "'mlp2x_gelu'"]),
    "feature": (configured(mm_vision_select_feature="cls_patch"), ["mm_vision_select_feature is 'cls_patch'"]),
    "image marks": (configured(mm_use_im_start_end=True), ["mm_use_im_start_end is True"]),
    "aspect": (configured(image_aspect_ratio="anyres"), ["image_aspect_ratio is 'anyres'", "only 'pad'"]),
    "quantised config": (configured(quantization_config={"bits": 4}), ["the weights are quantised"]),
    "nothing on the tower": (configured(mm_vision_tower=None), ["mm_vision_tower is missing"]),
    "width": (configured(mm_hidden_size=1024), ["width 1024 (mm_hidden_size)", "gives 32"]),
    "vocabulary": (configured(vocab_size=300), ["the tokenizer has 450 tokens", "vocab_size is 300"]),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), ["no tokenizer; tokenizer.model or"]),
    "NaN": (
        reweighted(lambda weights: weights[PROJECTOR].view(-1)[0].fill_(float("nan")), PROJECTOR),
        [PROJECTOR, "has NaN or infinite numbers"],
    ),
    "infinite": (
        reweighted(lambda weights: weights[PROJECTOR].view(-1)[-1].fill_(float("-inf")), PROJECTOR),
        [PROJECTOR, "has NaN or infinite numbers"],
    ),
    "an index of nothing": (put("model.safetensors.index.json", '{"weight_map": {}}'), ["weight_map must give"]),
    "an index of numbers": (put("model.safetensors.index.json", '{"weight_map": {"a": 1}}'), ["weight_map must give"]),
    "a deep index": (put("model.safetensors.index.json", NESTED), ["index.json: cannot be read"]),
    "a deep config": (put("config.json", NESTED), ["config.json: cannot be read"]),
    "text for a size": (configured(hidden_size="wide"), ["hidden_size is 'wide'; a whole number"]),
    "no size": (configured(num_attention_heads=0), ["num_attention_heads is 0; a whole number"]),
    "very many layers": (configured(num_hidden_layers=10**9), ["num_hidden_layers is 1000000000"]),
    "text for a layer": (configured(mm_vision_select_layer="last"), ["mm_vision_select_layer is 'last'"]),
    "a name for a list": (configured(architectures="LlavaLlamaForCausalLM"), ["architectures is", "a list of names"]),
    "wrong types": (configured(hidden_act=7), ["config.json"]),
    "a broken tokenizer": (put("tokenizer.json", "{"), ["the tokenizer's files cannot be used"]),
    "an empty tokenizer": (put("tokenizer.json", "{}"), ["the tokenizer's files cannot be used"]),
    "a deep tokenizer": (put("tokenizer.json", NESTED), ["the tokenizer's files cannot be used"]),
    "a tokenizer config that is a list": (put("tokenizer_config.json", "[]"), ["tokenizer_config.json", "found list"]),
    "a broken sentencepiece model": (put("tokenizer.model", "{"), ["tokenizer.model"]),
    "a tower of text": (
        put("tower/config.json", '{"model_type": "clip_vision_model", "hidden_size": "wide"}'),
        ["tower/config.json: cannot be used"],
    ),
    "end token": (
        lambda folder: (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "<unk>"}'),
        ["ends them with '<unk>'", "vicuna_v1"],
    ),
    "other tower": (
        lambda folder: (folder / "tower" / "config.json").write_text('{"model_type": "siglip_vision_model"}'),
        ["a siglip_vision_model model, not a CLIP vision tower"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name(
    source: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, words = CASES[case]
    spoil(source)
    monkeypatch.chdir(source)
    out = source.parent / "out"
    assert main(["convert", "llava", str(source), str(out), "--vision-tower", str(source / "tower")]) == 2
    message = capsys.readouterr().err
    assert str(source) in message or not words[0].startswith("model-")
    for part in words:
        assert part in message
    assert sorted(path.name for path in source.parent.iterdir()) == ["source"]
    assert not (source / "code-was-run").exists()


@pytest.mark.parametrize(
    ("with_tower", "name", "words"),
    [
        (False, "openai/clip-vit-large-patch14-336", ["not in the checkpoint", "download that and give its folder"]),
        (True, "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", ["is not a known one", "config.json with --vision-tower"]),
        (True, "openai/clip-vit-large-patch14-336", ["(mm_hidden_size), but the vision tower gives 1024"]),
    ],
)
def test_a_vision_tower_that_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], with_tower: bool, name: str, words: list[str]
) -> None:
    write_checkpoint(tmp_path / "source", with_tower=with_tower, mm_vision_tower=name)
    assert main(["convert", "llava", str(tmp_path / "source"), str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in [name, "--vision-tower", *words])


def test_a_vision_tower_that_lacks_a_weight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "source", with_tower=False)
    tower = tmp_path / "source" / "tower"
    weights = load_file(tower / "model.safetensors")
    del weights["post_layernorm.bias"]
    save_file(weights, tower / "model.safetensors")
    arguments = [str(tmp_path / "source"), str(tmp_path / "out"), "--vision-tower", str(tower)]
    assert main(["convert", "llava", *arguments]) == 2
    assert f"{tower}: model.vision_tower.vision_tower.vision_model.post_layernorm.bias" in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    arguments = [str(sound), str(tmp_path), "--vision-tower", str(sound / "tower")]
    assert main(["convert", "llava", *arguments]) == 2
    assert "is not empty; name another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
