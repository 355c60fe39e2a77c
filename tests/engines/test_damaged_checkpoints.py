"""Checkpoints that are damaged or contradict themselves: each is refused in one line that names the fault."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.engines.checkpoint_files import is_finite
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import load_engine

WEIGHTS = "model.safetensors"
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "language_model.lm_head.weight"
LAYER = "language_model.model.layers.1.self_attn.q_proj.weight"
NORM = "language_model.model.norm.weight"

Spoil = Callable[[Path], object]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


def put(name: str, content: str | bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(name: str, share: float) -> Spoil:
    """Only the first ``share`` of the file; above 1, bytes are added behind its end."""

    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        size = int(len(content) * share)
        (folder / name).write_bytes(content[:size] + b"x" * (size - len(content)))

    return spoil


def changed(name: str, *place: str, **values: Any) -> Spoil:
    """Keys of the JSON object at ``place`` of file ``name`` set; None takes a key out."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        target = content
        for key in place:
            target = target[key]
        target |= values
        for key in [key for key, value in values.items() if value is None]:
            del target[key]
        (folder / name).write_text(json.dumps(content))

    return spoil


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        content = load_file(folder / WEIGHTS)
        change(content)
        save_file(content, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def number(name: str, value: float) -> Spoil:
    """One number of the weight ``name`` replaced."""

    def change(content: dict[str, torch.Tensor]) -> None:
        content[name].view(-1)[-1] = value

    return weights(change)


def indexed(content: Any) -> Spoil:
    """The weights as a shard with an index of this content, a pickle beside it, and a copy outside the folder."""

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / SHARD)
        (folder / INDEX).write_text(content if isinstance(content, str) else json.dumps({"weight_map": content}))
        (folder / "weights.bin").write_bytes(pickle.dumps(Command()))
        shutil.copy(folder / SHARD, folder.parent / SHARD)
        shutil.copy(folder / SHARD, folder / "copy.safetensors")

    return spoil


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


class Command:
    """What a pickle can do to those who load it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("code-was-run",)


NESTED = "[" * 100_000 + "]" * 100_000

CASES: dict[str, tuple[Spoil, list[str]]] = {
    # Weight files.
    "cut in the data": (cut(WEIGHTS, 0.6), [WEIGHTS, "cut off or damaged"]),
    "cut in the header": (cut(WEIGHTS, 0.0005), [WEIGHTS, "cut off or damaged"]),
    "bytes behind the end": (cut(WEIGHTS, 1.01), [WEIGHTS, "cut off or damaged"]),
    "empty": (put(WEIGHTS, b""), [WEIGHTS, "cut off or damaged"]),
    "a page of the web": (put(WEIGHTS, "<html>no such file</html>"), [WEIGHTS, "cut off or damaged"]),
    "a huge header": (put(WEIGHTS, (1 << 60).to_bytes(8, "little")), [WEIGHTS, "cut off or damaged"]),
    "a header that is no JSON": (put(WEIGHTS, header("weights")), [WEIGHTS, "cut off or damaged"]),
    "no tensors": (put(WEIGHTS, header("{}")), [WEIGHTS, "holds no weights"]),
    "a deep header": (put(WEIGHTS, header('{"a":' + NESTED + "}")), [WEIGHTS, "cut off or damaged"]),
    # Values and types.
    "NaN": (number(LAYER, float("nan")), ["layers.1.self_attn.q_proj.weight", "NaN or infinite"]),
    "infinite": (number(NORM, float("inf")), ["norm.weight", "NaN or infinite"]),
    "negative infinity": (number(HEAD, float("-inf")), ["lm_head.weight", "NaN or infinite"]),
    "features that overflow": (
        weights(lambda w: w["multi_modal_projector.linear_2.weight"].fill_(3e38)),
        ["vision encoder", "NaN or infinite features in torch.float32"],
    ),
    "whole numbers": (
        weights(lambda w: w.update({LAYER: w[LAYER].to(torch.int32)})),
        [WEIGHTS, LAYER, "type I32", "float"],
    ),
    # Names and shapes.
    "a weight is missing": (weights(lambda w: w.pop(LAYER)), ["1 of", "layers.1.self_attn.q_proj.weight"]),
    "no head": (weights(lambda w: w.pop(HEAD)), ["1 of", "lm_head.weight"]),
    "a weight too many": (
        weights(lambda w: w.update({"language_model.model.layers.1.gate": torch.ones(2)})),
        ["1 of the weights", "layers.1.gate", "does not take"],
    ),
    "fewer layers": (
        changed("config.json", "text_config", num_hidden_layers=2),
        ["9 of the weights", "layers.2.", "does not take"],
    ),
    "more layers": (changed("config.json", "text_config", num_hidden_layers=5), ["18 of", "layers.3."]),
    "very many layers": (
        changed("config.json", "text_config", num_hidden_layers=10**9),
        ["num_hidden_layers is 1000000000"],
    ),
    "another width": (
        changed("config.json", "text_config", intermediate_size=97),
        ["9 of the weights", "mlp", "shape"],
    ),
    "a longer embedding": (
        changed("config.json", "text_config", vocab_size=1000),
        ["2 of the weights", "(468, 64)", "shape"],
    ),
    "tied in config.json": (
        changed("config.json", tie_word_embeddings=True),
        ["lm_head.weight", "tie_word_embeddings"],
    ),
    # The index.
    "an empty index": (indexed(""), [INDEX, "cannot be read"]),
    "an index of nothing": (indexed({}), [INDEX, "weight_map"]),
    "an index of numbers": (indexed({HEAD: 1}), [INDEX, "weight_map names 1"]),
    "an index that is a list": (indexed([SHARD]), [INDEX, "weight_map"]),
    "a deep index": (indexed(NESTED), [INDEX, "cannot be read"]),
    "an index that names a pickle": (indexed({HEAD: "weights.bin"}), [INDEX, "'weights.bin'", "only safetensors"]),
    "an index that leaves the folder": (indexed({HEAD: f"../{SHARD}"}), [INDEX, f"'../{SHARD}'", "same folder"]),
    "a weight in two files": (indexed({HEAD: SHARD, NORM: "copy.safetensors"}), ["is also in copy.safetensors"]),
    "an index of files that are not there": (indexed({HEAD: "more.safetensors"}), ["more.safetensors", "missing"]),
    # config.json.
    "text for a number": (changed("config.json", "text_config", hidden_size="wide"), ["config.json"]),
    "a list for a number": (changed("config.json", "text_config", num_hidden_layers=[3]), ["config.json"]),
    "a negative number": (changed("config.json", "text_config", num_attention_heads=-4), ["config.json"]),
    "zero heads": (changed("config.json", "text_config", num_attention_heads=0), ["config.json"]),
    "a number for a part": (changed("config.json", vision_config=7), ["config.json"]),
    "a list for a model type": (changed("config.json", model_type=["llava"]), ["config.json"]),
    "a list": (put("config.json", "[1, 2]"), ["config.json", "list"]),
    "deep": (put("config.json", NESTED), ["config.json", "cannot be read"]),
    "deep inside": (put("config.json", '{"model_type": "llava", "text_config": ' + NESTED + "}"), ["config.json"]),
    "bytes": (put("config.json", b"\xff\xfe\x00"), ["config.json", "cannot be read"]),
    "an unknown type of numbers": (changed("config.json", dtype="float99"), ["config.json", "float99"]),
    "whole numbers as the type": (changed("config.json", dtype="int8"), ["config.json", "int8"]),
    # The end of an answer.
    "an end token that is text": (changed("generation_config.json", eos_token_id="</s>"), ["eos_token_id", "'</s>'"]),
    "an end token out of range": (changed("generation_config.json", eos_token_id=5000), ["eos_token_id", "5000"]),
    "a negative end token": (changed("generation_config.json", eos_token_id=[1, -1]), ["eos_token_id", "-1"]),
    "no end token": (changed("generation_config.json", eos_token_id=[]), ["end token"]),
    "an adapter beside the weights": (put("adapter_config.json", "{}"), ["adapter_config.json", "peft=FOLDER"]),
    "a broken generation config": (put("generation_config.json", "{"), ["generation_config.json"]),
    # Tokenizer and processor.
    "a broken tokenizer": (put("tokenizer.json", "{"), ["processor"]),
    "an empty tokenizer": (put("tokenizer.json", "{}"), ["processor"]),
    "a deep tokenizer": (put("tokenizer.json", NESTED), ["processor"]),
    "merges of unknown tokens": (
        changed("tokenizer.json", "model", merges=[["no", "such"]]),
        ["processor"],
    ),
    "a tokenizer config that is a list": (put("tokenizer_config.json", "[]"), ["processor"]),
    "a tokenizer larger than the embedding": (
        changed("tokenizer.json", "model", "vocab", zebra=100_000),
        ["tokenizer", "100000", "embedding"],
    ),
    "a broken chat template": (put("chat_template.jinja", "{% for %}"), ["chat template"]),
    "a deviation of 0": (changed("processor_config.json", "image_processor", image_std=[0, 0, 0]), ["image_std"]),
    "a mean that is text": (changed("processor_config.json", "image_processor", image_mean="grey"), ["processor"]),
    "no size": (changed("processor_config.json", "image_processor", size={"height": 0, "width": 0}), ["processor"]),
    "another patch size": (changed("processor_config.json", patch_size=12), ["tokens", "patch_size"]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_that_names_the_fault(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, words = CASES[case]
    spoil(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(CheckpointError) as caught:
        load_engine(EngineConfig(str(folder), device="cpu"))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    for part in words:
        assert part in message
    assert not (folder / "code-was-run").exists()


def test_a_sum_that_overflows_is_no_fault() -> None:
    large = torch.full((100, 100), 60_000.0, dtype=torch.float16)
    assert is_finite(large)
    assert is_finite(torch.empty(0))
    for value in (float("nan"), float("inf"), float("-inf")):
        large[3, 4] = value
        assert not is_finite(large)


def test_the_sound_checkpoint_loads(checkpoint: Path) -> None:
    load_engine(EngineConfig(str(checkpoint), device="cpu"))
