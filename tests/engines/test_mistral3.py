"""Mistral 3: pictures as rows of tokens with markers, and the two forms of its language model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Ministral3Config, Mistral3ForConditionalGeneration

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture, image_inputs
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.families import FAMILIES
from measurements.exactness import compare
from measurements.plain_reference import reference
from measurements.random_models import ARCHITECTURES, build
from tests.engines.asking import ask, assert_alike, completed, picture

REQUESTS = [ask(picture(1, size), "is there a cup") for size in ((40, 30), (90, 60))]


@pytest.fixture
def mistral(checkpoint_of: Callable[..., Checkpoint]) -> Checkpoint:
    return checkpoint_of("mistral3")


def change(file: Path, *lost: str, **values: Any) -> None:
    """Set ``values`` in a JSON file and its "text_config", and take out ``lost``."""
    content = json.loads(file.read_text())
    for part in (content, content["text_config"]):
        for name in lost:
            part.pop(name, None)
    file.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("size", "columns", "rows"), [((40, 30), 5, 4), ((30, 40), 4, 5), ((96, 20), 6, 2), ((1, 1), 1, 1)]
)
def test_a_marker_ends_every_row(mistral: Checkpoint, size: tuple[int, int], columns: int, rows: int) -> None:
    found = image_inputs(mistral.processor, picture(1, size).pixels)
    image, rest, end = (
        mistral.processor.tokenizer.convert_tokens_to_ids(f"[IMG{name}]") for name in ("", "_BREAK", "_END")
    )
    row = [image] * columns
    assert list(found.ids) == [*[*row, rest] * (rows - 1), *row, end]
    assert (found.tokens, found.before, found.after) == (rows * columns, "", "")
    # A token stands for two patches by two, of 4 pixels; what is longer than 48 pixels is made smaller.
    assert mistral.family.encoded_size(found, mistral.processor) == (8 * columns, 8 * rows)


@torch.inference_mode()
def test_features_do_not_depend_on_the_other_pictures(checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint = checkpoint_of("mistral3", torch.float64)
    pictures = [picture(seed, size) for seed, size in enumerate([(90, 24), (48, 47), (1, 1), (24, 90)])]
    encoder = ImageEncoder(checkpoint.model, checkpoint.processor, checkpoint.family, Counters())
    together = encoder.encode([ShownPicture(found) for found in pictures], max_batch=4)
    assert [len(features) for features in together.values()] == [12, 36, 1, 12]
    # As transformers does with the pictures of one conversation: padded, and in one sequence.
    inputs = checkpoint.processor(text="[IMG]" * 4, images=[[found.pixels for found in pictures]], return_tensors="pt")
    pixels, sizes = inputs["pixel_values"].double(), inputs["image_sizes"]
    expected = checkpoint.model.get_image_features(pixel_values=pixels, image_sizes=sizes).pooler_output
    for found, features in zip(together.values(), expected, strict=True):
        torch.testing.assert_close(found, features, rtol=0, atol=1e-10)


def test_a_checkpoint_as_published_loads_and_answers(mistral: Checkpoint, tmp_path: Path) -> None:
    # Its config.json does not say whether embedding and head are one, and the class's default is that they are.
    mistral.model.save_pretrained(tmp_path)
    mistral.processor.save_pretrained(tmp_path)
    change(tmp_path / "config.json", "tie_word_embeddings")
    engine = load_engine(EngineConfig(str(tmp_path), device="cpu"))
    assert_alike(engine.generate(REQUESTS), TransformersEngine(mistral, 2, 0).generate(REQUESTS))
    assert engine.encoded_size(picture(1, (90, 60))) == (48, 32)
    with pytest.raises(UserError, match="max_pixels do not apply to mistral3"):
        load_engine(EngineConfig(str(tmp_path), device="cpu", max_pixels=1000))


def test_embedding_and_head_may_be_one(mistral: Checkpoint, tmp_path: Path) -> None:
    # Ministral 3 3B has no head among its weights, and its text configuration says so.
    mistral.model.save_pretrained(tmp_path)
    mistral.processor.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["language_model.lm_head.weight"]
    save_file(weights, file, {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    change(
        tmp_path / "config.json",
        "tie_word_embeddings",
        text_config=config["text_config"] | {"tie_word_embeddings": True},
    )
    engine = load_engine(EngineConfig(str(tmp_path), device="cpu"))
    assert all(completed(found).token_ids for found in engine.generate(REQUESTS))


def _ministral() -> tuple[Any, Any]:
    """Queries grow with their position, here from the 20th token on."""
    model, processor = ARCHITECTURES["mistral3"]()
    config, text = model.config, model.config.text_config
    config.text_config = Ministral3Config(
        **{name: getattr(text, name) for name in ("vocab_size", "hidden_size", "intermediate_size", "head_dim")},
        **{name: getattr(text, name) for name in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads")},
        max_position_embeddings=2048,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 1000000.0,
            "factor": 16.0,
            "original_max_position_embeddings": 20,
            "llama_4_scaling_beta": 0.1,
        },
    )
    return Mistral3ForConditionalGeneration(config), processor


def test_ministral_agrees_with_plain_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "ministral3", _ministral)
    checkpoint = prepare(*build("ministral3"), FAMILIES["mistral3"], "ministral3")
    expected = reference(checkpoint, count=2, longest=6)
    result = compare(checkpoint, expected, batch_size=3, cache="on")
    assert result.holds(exact=False), result
    assert result.reused > 0
