"""Checkpoints of the generic family on disk: what loads and answers, and what is refused with what to do."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.generate import GenerateEngine
from dualfocus_eval.engines.in_process import load_engine
from tests.engines.asking import ask, assert_alike, completed, picture


@pytest.fixture(scope="module")
def saved(checkpoint_of: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-mllama"
    checkpoint = checkpoint_of("mllama")
    checkpoint.model.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "broken"))


def refused(folder: Path, message: str, **options: str | int) -> None:
    with pytest.raises((CheckpointError, UserError), match=message):
        load_engine(EngineConfig(str(folder), device="cpu", **options))  # type: ignore[arg-type]


def test_a_saved_checkpoint_answers_like_the_model_it_was(
    saved: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    engine = load_engine(EngineConfig(str(saved), device="cpu"))
    assert isinstance(engine, GenerateEngine)
    request = ask(picture(), "is there a cup")
    assert engine.counters.images_encoded == 0
    assert_alike(engine.generate([request]), GenerateEngine(checkpoint_of("mllama"), 1).generate([request]))
    assert (engine.prefix_cache_bytes, engine.identity[:12]) == (0, "tiny-mllama-")
    with pytest.raises(UserError, match="the size to which the processor resizes an image is not known"):
        engine.encoded_size(picture())


def test_a_missing_chat_template(broken: Path) -> None:
    (broken / "chat_template.jinja").unlink()
    refused(broken, r"broken: no chat template; add chat_template.jinja to the checkpoint")


def test_a_template_without_images(broken: Path) -> None:
    file = broken / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|image|>", ""))
    refused(broken, "it cannot answer about a picture: .*; take processor, config.json and weights from the same")


def test_a_processor_of_another_family(broken: Path, checkpoint_of: Callable[..., Checkpoint]) -> None:
    for file in [*broken.glob("*token*"), *broken.glob("*processor*"), *broken.glob("*.jinja")]:
        file.unlink()
    checkpoint_of("mistral3").processor.save_pretrained(broken)
    refused(broken, "its processor is a PixtralProcessor, but model_type 'mllama' takes a MllamaProcessor; take")


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows(
    broken: Path, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    processor = copy.deepcopy(checkpoint_of("mllama").processor)
    processor.tokenizer.add_tokens([f"<|more_{number}|>" for number in range(20)])
    processor.save_pretrained(broken)
    refused(broken, "the tokenizer's ids go up to .*, but the embedding has .* rows")


def test_weights_that_give_no_finite_logits_in_half_precision(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("lm_head.weight")]
    save_file({**weights, name: torch.full_like(weights[name], 6e4)}, broken / "model.safetensors", {"format": "pt"})
    refused(
        broken,
        "it cannot answer about a picture: the model's logits are NaN or infinite in float16; try dtype=bfloat16",
        dtype="float16",
    )


def test_options_that_do_not_apply(saved: Path) -> None:
    refused(saved, "max_pixels do not apply to mllama: set its processor's own limits", max_pixels=1000)
    refused(saved, "image_aspect=pad does not apply to mllama", image_aspect="pad")


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(tmp_path, "model_type 'florence2' is an encoder-decoder, which cannot go on with a conversation")


def test_an_adapter_is_merged(saved: Path, tmp_path: Path, checkpoint_of: Callable[..., Checkpoint]) -> None:
    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(checkpoint_of("mllama").model)
    settings = LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    get_peft_model(model, settings).save_pretrained(tmp_path / "adapter")
    request = ask(picture(), "is there a cup")
    base = load_engine(EngineConfig(str(saved), device="cpu")).generate([request])
    tuned = load_engine(EngineConfig(str(saved), device="cpu", peft=str(tmp_path / "adapter"))).generate([request])
    assert completed(base[0]).logprobs != completed(tuned[0]).logprobs
