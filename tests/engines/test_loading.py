"""Checkpoints on disk: what loads, and what is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.validation import validated
from dualfocus_eval.engines.base import Completion, GenerateRequest, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.engines.prefix_cache import GIB, default_budget
from tests.engines.asking import assert_alike


@pytest.fixture(scope="module")
def saved(llava: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-llava"
    llava.model.save_pretrained(folder)
    llava.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "broken"))


def test_a_saved_checkpoint_answers_like_the_model_it_was(saved: Path, llava: Checkpoint) -> None:
    engine = load_engine(EngineConfig(str(saved), device="cpu"))
    request = GenerateRequest((Message("user", (Picture(Image.new("RGB", (30, 40), "red")), "is there")),), 10)
    assert_alike(engine.generate([request]), TransformersEngine(llava, 1, 0).generate([request]))
    assert engine.checkpoint.model.dtype == torch.float32
    assert engine.checkpoint.end_ids == llava.end_ids
    assert engine.identity.startswith("tiny-llava-")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_engine(EngineConfig(str(tmp_path / "nothing")))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "processor"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_folder_that_lacks_a_file(broken: Path, lost: str, message: str) -> None:
    (broken / lost).unlink()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_engine(EngineConfig(str(broken), device="cpu"))
    assert str(broken) in str(caught.value)


def test_an_adapter_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"an adapter, not a checkpoint; pass peft={tmp_path}"):
        load_engine(EngineConfig(str(tmp_path)))


def test_pickled_weights_are_refused(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        load_engine(EngineConfig(str(broken)))


def test_the_original_llava_layout_is_named(broken: Path) -> None:
    config = {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "mm_projector_type": "mlp2x_gelu"}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="dualfocus convert llava"):
        load_engine(EngineConfig(str(broken)))


def test_a_missing_shard_is_named(broken: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="model-00001-of-00002"):
        load_engine(EngineConfig(str(broken)))


def test_weights_of_another_shape_are_refused(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 5
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        load_engine(EngineConfig(str(broken), device="cpu"))


def test_a_model_without_a_vision_part_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'bert' is a language model without a vision part"):
        load_engine(EngineConfig(str(tmp_path)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "int8"}, "dtype: 'int8' is not one of: auto, float32"),
        ({"max_conversations": 0}, "at least 1"),
        ({"prefix_cache_gib": -1.0}, "prefix_cache_gib: -1.0 must be at least 0"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"pretrained": ""}, "name a checkpoint"),
    ],
)
def test_wrong_options_name_the_right_ones(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validated(EngineConfig, {"pretrained": "x", **wrong}, "--model_args")


def test_the_prefix_cache_is_in_proportion_to_the_model_unless_it_is_given(saved: Path) -> None:
    engine = load_engine(EngineConfig(str(saved), device="cpu"))
    assert engine.prefix_cache.budget == 16 * sum(weight.nbytes for weight in engine.checkpoint.model.parameters())
    assert load_engine(EngineConfig(str(saved), device="cpu", prefix_cache_gib=0.5)).prefix_cache.budget == GIB // 2
    assert default_budget(weights=14 * GIB, free=60 * GIB) == 2 * GIB
    assert default_budget(weights=14 * GIB, free=4 * GIB) == GIB // 2


def test_options_of_other_families_are_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="min_pixels and max_pixels do not apply to llava"):
        load_engine(EngineConfig(str(saved), max_pixels=1000))
    with pytest.raises(UserError, match="device='abacus' is unknown"):
        load_engine(EngineConfig(str(saved), device="abacus"))


def test_padding_keeps_the_borders_that_cropping_loses(broken: Path) -> None:
    name = "processor_config.json" if (broken / "processor_config.json").is_file() else "preprocessor_config.json"
    settings = json.loads((broken / name).read_text())
    images = settings.get("image_processor", settings)
    # As on the hub: the shorter side is resized, the rest cropped away.
    images |= {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
    (broken / name).write_text(json.dumps(settings))

    def sees_the_left_border(**options: str) -> bool:
        engine = load_engine(EngineConfig(str(broken), device="cpu", **options))  # type: ignore[arg-type]
        plain, marked = Image.new("RGB", (96, 24), "blue"), Image.new("RGB", (96, 24), "blue")
        marked.paste("red", (0, 0, 12, 24))
        request = [GenerateRequest((Message("user", (Picture(i), "is there")),), 4) for i in (plain, marked)]
        answers = engine.generate(request)
        assert all(isinstance(answer, Completion) for answer in answers)
        return answers[0] != answers[1]

    assert not sees_the_left_border()
    assert sees_the_left_border(image_aspect="pad")
