"""Pictures that are cut into tiles: as many as each has, whatever its neighbours, and whatever its conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.smolvlm import processing_smolvlm

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.engines.base import Completion, Counters, GenerateRequest, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture, image_inputs
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.engines.loading import load_processor
from dualfocus_eval.engines.processors import check_image_tokens
from dualfocus_eval.families import FAMILIES

TILED = ["internvl", "llava_onevision", "idefics3", "smolvlm"]
SIZES = [(20, 20), (90, 24), (48, 47), (24, 90), (90, 90)]
"""(width, height) in pixels, of different numbers of tiles."""


def picture(size: tuple[int, int], seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise))


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]


def encoder(checkpoint: Checkpoint) -> ImageEncoder:
    return ImageEncoder(checkpoint.model, checkpoint.processor, checkpoint.family, Counters())


@torch.inference_mode()
def test_features_do_not_depend_on_the_other_pictures(checkpoint_of: Callable[..., Checkpoint]) -> None:
    for architecture in TILED:
        checkpoint = checkpoint_of(architecture, torch.float64)
        shown = [ShownPicture(found) for found in PICTURES]
        together = encoder(checkpoint).encode(shown, max_batch=len(shown))
        assert len({len(features) for features in together.values()}) > 1
        for one in shown:
            alone = encoder(checkpoint).encode([one], max_batch=1)[one.key]
            torch.testing.assert_close(together[one.key], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("architecture", FAMILIES.items)
def test_the_parts_of_the_model_are_under_the_familys_prefixes(
    checkpoint_of: Callable[..., Checkpoint], architecture: str
) -> None:
    checkpoint = checkpoint_of(architecture)
    family = checkpoint.family
    names = [name for name, _ in checkpoint.model.named_parameters()]
    for prefix in (family.vision_tower, family.connector, family.language_model):
        assert any(name.startswith(f"{prefix}.") for name in names), prefix
    known = tuple(f"{prefix}." for prefix in (family.vision_tower, family.connector, family.language_model))
    assert {name for name in names if not name.startswith(known)} <= {"lm_head.weight", "model.image_newline"}


def test_one_picture_is_tiled_and_of_several_none(checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint = checkpoint_of("llava_onevision")
    alone, several = (image_inputs(checkpoint.processor, PICTURES[4].pixels, several) for several in (False, True))
    assert [tuple(found.tensors["pixel_values"].shape[:2]) for found in (alone, several)] == [(1, 10), (1, 1)]
    # 16 of the thumbnail, and 12 x 12 patches scaled down to 3 tiles, each row with its newline; 16 and a newline.
    assert alone.tokens == 16 + 6 * 7
    assert several.tokens == 16 + 1
    assert ImageEncoder.shown(encoder(checkpoint), PICTURES[:1]) == (ShownPicture(PICTURES[0]),)
    assert {found.several for found in encoder(checkpoint).shown(PICTURES[:2])} == {True}
    for other in ("internvl", "smolvlm", "llava_next"):
        assert {found.several for found in encoder(checkpoint_of(other)).shown(PICTURES[:2])} == {False}


@torch.inference_mode()
def test_both_forms_of_a_picture_in_one_batch(checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint = checkpoint_of("llava_onevision", torch.float64)
    shown = [ShownPicture(found, several) for found in PICTURES[1:3] for several in (True, False)]
    found = encoder(checkpoint).encode(shown, max_batch=4)
    for one in shown:
        # As transformers prepares a conversation of one picture, or of two.
        pixels = [one.picture.pixels] * (1 + one.several)
        inputs = checkpoint.processor(text="<image>" * len(pixels), images=[pixels], return_tensors="pt")
        expected = checkpoint.model.get_image_features(
            **{name: inputs[name] for name in ("pixel_values", "image_sizes", "batch_num_images")}
        )
        torch.testing.assert_close(found[one.key], expected.pooler_output[0], rtol=0, atol=1e-10)


def test_a_crop_changes_the_image_so_only_a_pass_shares_its_states(checkpoint_of: Callable[..., Checkpoint]) -> None:
    engine = TransformersEngine(checkpoint_of("llava_onevision"), 4, 1 << 26)
    image, crop = PICTURES[1:3]
    first = [GenerateRequest((Message("user", (image, text)),), 6) for text in ("is there a cup", "please provide")]
    answers = engine.generate(first)
    to_image_end = engine._renderer.render(first[0].conversation).boundaries[0].end
    assert engine.counters.tokens_reused == to_image_end
    assert engine.counters.images_encoded == 1
    told = answers[1]
    assert isinstance(told, Completion)
    before = dataclasses.replace(engine.counters)
    grounded = (*first[1].conversation, Message("assistant", (told.text,), told.token_ids))
    second = [GenerateRequest((*grounded, Message("user", (crop, text))), 6) for text in ("what colour", "how many")]
    engine.generate(second)
    to_crop_end = engine._renderer.render(second[0].conversation).boundaries[-1].end
    assert engine.counters.tokens_reused - before.tokens_reused == to_crop_end
    assert engine.counters.images_encoded - before.images_encoded == 2


def test_conversations_of_one_and_of_several_pictures_in_one_batch(checkpoint_of: Callable[..., Checkpoint]) -> None:
    for architecture in TILED:
        checkpoint = checkpoint_of(architecture, torch.float64)
        image, other, crop = PICTURES[1:4]
        pair = Message("user", (image, "or", other, "please provide"))
        told = Message("assistant", ("unused",), (270, 280, 290))
        conversations = [
            (Message("user", (image, "is there a cup")),),
            (pair,),
            (pair, told, Message("user", (crop, "what colour"))),
            (Message("user", ("no picture",)),),
        ]
        requests = [GenerateRequest(conversation, 6) for conversation in conversations]
        together = TransformersEngine(checkpoint, 4, 1 << 26).generate(requests)
        alone = [TransformersEngine(checkpoint, 1, 0).generate([request])[0] for request in requests]
        for found, expected in zip(together, alone, strict=True):
            assert isinstance(found, Completion)
            assert isinstance(expected, Completion)
            assert found.token_ids == expected.token_ids


def test_a_picture_that_is_not_split(checkpoint_of: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in ("idefics3", "smolvlm"):
        checkpoint = checkpoint_of(architecture)
        processor = checkpoint.processor
        markers = {processor.tokenizer.convert_tokens_to_ids(f"<row_{row}_col_1>") for row in (1, 2)}
        assert markers <= set(image_inputs(processor, PICTURES[3].pixels).ids)
        monkeypatch.setattr(processor.image_processor, "do_image_splitting", False)
        inputs = image_inputs(processor, PICTURES[3].pixels)
        assert inputs.tokens == 4
        assert not markers & set(inputs.ids)
        monkeypatch.setattr(processor.image_processor, "do_image_splitting", True)
        monkeypatch.setattr(processor.image_processor, "size", {"longest_edge": 24})
        assert image_inputs(processor, PICTURES[4].pixels).ids == inputs.ids  # a square as large as one tile
        assert checkpoint.family.encoded_size(inputs, processor) == (24, 24)


@pytest.mark.parametrize("architecture", TILED)
def test_a_saved_checkpoint_answers_the_same(
    checkpoint_of: Callable[..., Checkpoint], architecture: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(architecture)
    checkpoint.model.save_pretrained(tmp_path)
    checkpoint.processor.save_pretrained(tmp_path)
    requests = [GenerateRequest((Message("user", (found, "is there a cup")),), 6) for found in PICTURES[:2]]
    loaded = load_engine(EngineConfig(str(tmp_path), device="cpu")).generate(requests)
    for found, expected in zip(loaded, TransformersEngine(checkpoint, 2, 0).generate(requests), strict=True):
        assert isinstance(found, Completion)
        assert isinstance(expected, Completion)
        assert found.token_ids == expected.token_ids
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_count_that_is_wrong_of_several_pictures_only_is_refused_when_loaded(
    checkpoint_of: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of("llava_onevision")
    check_image_tokens(checkpoint.model, checkpoint.processor, checkpoint.family, "x")
    original = checkpoint.processor.replace_image_token

    def replace(inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        text: str = original(inputs, image_idx, **kwargs)
        return text + "<image>" * (len(inputs["image_sizes"]) > 1)

    monkeypatch.setattr(checkpoint.processor, "replace_image_token", replace)
    with pytest.raises(CheckpointError, match="reserves 18 tokens for a picture that the model encodes into 17"):
        check_image_tokens(checkpoint.model, checkpoint.processor, checkpoint.family, "x")


def test_smolvlm_names_the_package_that_it_lacks(
    checkpoint_of: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of("smolvlm")
    checkpoint.model.save_pretrained(tmp_path)
    checkpoint.processor.save_pretrained(tmp_path)
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(CheckpointError, match="pip install num2words"):
        load_processor(EngineConfig(str(tmp_path), device="cpu"))
