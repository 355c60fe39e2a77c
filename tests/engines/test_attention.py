"""Attention read from one layer is what transformers' eager attention has in that layer, cell for cell of the image."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaImageProcessor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.attention import AttendingEngine, AttentionRequest, ImageAttention
from dualfocus_eval.engines.base import Conversation, Counters, Failure, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture
from dualfocus_eval.engines.in_process import TransformersEngine, engine_of
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from measurements.exactness import random_checkpoint
from measurements.plain_reference import conversations, plain_inputs
from measurements.random_models import build
from tests.engines.asking import ask, picture

WITH_GRID = [family.model_type for family in FAMILIES if family.grid is not None]
VARIANTS = {"qwen3_vl_moe", "qwen3_5_moe", "glm4v_moe", "glm46v", "smolvlm"}
"""Those of them that share everything here with another."""
ARCHITECTURES = [name for name in WITH_GRID if name not in VARIANTS]
CLOSE = 1e-5

Maps = list[list[np.ndarray[Any, Any]]]


@functools.cache
def asked() -> tuple[Conversation, ...]:
    return tuple(one for macro, grounding, _, _ in conversations(4) for one in (macro, grounding))


@functools.cache
def eager_maps(architecture: str) -> Maps:
    """By layer and conversation: the attention of the last token to all image tokens, of a model that is all eager."""
    checkpoint = random_checkpoint(architecture, torch.float32)
    checkpoint.model.set_attn_implementation("eager")
    by_conversation = []
    for conversation in asked():
        inputs = plain_inputs(checkpoint, conversation)
        with torch.inference_mode():
            layers = checkpoint.model(**inputs, output_attentions=True).attentions
        shown = (inputs["input_ids"][0] == checkpoint.processor.image_token_ids[0]).nonzero()[:, 0]
        by_conversation.append([layer[0, :, -1, shown].mean(dim=0).numpy() for layer in layers])
    return [list(maps) for maps in zip(*by_conversation, strict=True)]


def attention(found: ImageAttention | Failure) -> ImageAttention:
    assert isinstance(found, ImageAttention), found
    return found


def worst(engine: TransformersEngine, layer: int, expected: list[np.ndarray[Any, Any]]) -> float:
    """The largest difference over all conversations and cells."""
    results = engine.attend([AttentionRequest(one) for one in asked()], layer)
    gaps = []
    for result, wanted in zip(map(attention, results), expected, strict=True):
        grid = result.grid
        cells = wanted[grid.first : grid.first + grid.rows * grid.columns].reshape(grid.rows, grid.columns)
        assert cells.shape == result.weights.shape
        gaps.append(abs(result.weights - cells).max())
    return float(max(gaps))


def attending(checkpoint: Checkpoint, batch_size: int = 8, budget: int = 1 << 30) -> TransformersEngine:
    engine = engine_of(checkpoint, batch_size, budget)
    assert isinstance(engine, TransformersEngine)
    return engine


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl"])
def test_every_layer_s_attention_is_that_of_eager_transformers(
    architecture: str, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    checkpoint = checkpoint_of(architecture)
    for layer, expected in enumerate(eager_maps(architecture)):
        for batch_size, budget in ((1, 0), (3, 0), (8, 1 << 30)):
            assert worst(attending(checkpoint, batch_size, budget), layer, expected) < CLOSE
    # In these two all image tokens are the grid's.
    sizes = [attention(one).weights.size for one in attending(checkpoint).attend(list(map(AttentionRequest, asked())))]
    assert sizes == [len(one) for one in eager_maps(architecture)[0]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_so_is_that_of_every_family_with_a_grid(architecture: str, checkpoint_of: Callable[..., Checkpoint]) -> None:
    """Through prefixes that are reused: the keys of the image come from the cache."""
    engine = attending(checkpoint_of(architecture), batch_size=3)
    layers = [layer for layer in range(8) if engine.attention_problem(layer) is None]
    expected = eager_maps(architecture)
    assert worst(engine, layers[-1], expected[-1 if len(expected) == len(layers) else layers[-1]]) < CLOSE
    computed = engine.counters.tokens_prefilled
    assert worst(engine, layers[0], expected[0 if len(expected) == len(layers) else layers[0]]) < CLOSE
    assert engine.counters.tokens_prefilled - computed < computed


def test_the_model_stays_on_its_own_kernel(llava: Checkpoint) -> None:
    engine = attending(llava)
    request = ask(picture(), "is there a cup", most=8)
    before = engine.generate([request])
    attention_modules = [layer.self_attn for layer in llava.model.model.language_model.layers]
    configurations = [module.config for module in attention_modules]
    engine.attend([AttentionRequest(request.conversation)])
    assert [module.config for module in attention_modules] == configurations
    assert all(module.config is attention_modules[0].config for module in attention_modules)
    assert attention_modules[0].config._attn_implementation == "sdpa"
    assert not [name for name in ALL_ATTENTION_FUNCTIONS if "dualfocus" in name]
    assert engine.generate([request]) == before


def test_an_eager_model_can_be_read_too() -> None:
    checkpoint = random_checkpoint("llava", torch.float32)
    checkpoint.model.set_attn_implementation("eager")
    assert worst(attending(checkpoint), 1, eager_maps("llava")[1]) < CLOSE


def test_the_default_layer_is_a_share_of_the_depth(checkpoint_of: Callable[..., Checkpoint]) -> None:
    conversation = AttentionRequest(asked()[0])
    for architecture, layer in (("llava", 1), ("qwen3_5", 2)):  # Qwen3.5's other layers are recurrent
        engine = attending(checkpoint_of(architecture))
        (chosen,), (named,) = engine.attend([conversation]), engine.attend([conversation], layer)
        assert (attention(chosen).weights == attention(named).weights).all()


@pytest.mark.parametrize(
    ("architecture", "layer", "words"),
    [
        ("llava", 3, r"attention_layer=3: the layers of llava have the numbers 0 to 2"),
        ("qwen3_5", 0, r"attention_layer=0 keeps a recurrent state and attends to nothing; choose one of: 2"),
        ("gemma4", None, r"not known for model_type 'gemma4', only for: .*llava, .*qwen2_5_vl"),
    ],
)
def test_what_cannot_be_read_is_named(
    architecture: str, layer: int | None, words: str, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    problem = attending(checkpoint_of(architecture)).attention_problem(layer)
    assert problem is not None
    assert "\n" not in problem
    assert re.search(words, problem), problem


def test_a_run_that_cannot_be_done_is_refused_before_it_begins(checkpoint_of: Callable[..., Checkpoint]) -> None:
    generic = engine_of(checkpoint_of("mllama"), 2, 0)
    assert not isinstance(generic, AttendingEngine)
    settings = Settings(grounding="attention", attention_layer=3)
    for engine, words in ((generic, "with engine=in_process only"), (attending(checkpoint_of("llava")), "0 to 2")):
        with pytest.raises(UserError, match=f"^grounding=attention: .*{words}"):
            fitting_settings(settings, engine)
        macro = replace(settings, strategy="macro")
        assert fitting_settings(macro, engine) == (macro, ())
    text_box = Settings(attention_layer=3)
    assert fitting_settings(text_box, generic) == (text_box, ())


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl"])
def test_questions_are_answered_with_it_in_batches_of_any_size(
    architecture: str, checkpoint_of: Callable[..., Checkpoint]
) -> None:
    texts = ("is there a red cup", "what colour has the ball", "how many people are in the picture")
    questions = [
        Question(f"q{number}", text, text, (picture(number // 2, (96, 64)),)) for number, text in enumerate(texts)
    ]
    settings = Settings(grounding="attention", second_pass="joint", margin=0)
    found = [
        [
            (trace.text, trace.grounding)
            for trace in answer(questions, attending(checkpoint_of(architecture), *setup), settings)
        ]
        for setup in ((8, 1 << 30), (1, 0))
    ]
    assert found[0] == found[1]
    assert all(grounding and grounding.box and grounding.crop for _, grounding in found[0])


def test_requests_fail_one_by_one(llava: Checkpoint) -> None:
    none, fine, two, long = (
        (Message("user", content),)
        for content in (
            ("is there",),
            (picture(), "is there"),
            (picture(), picture(1), "is there"),
            (picture(), "is there " * 3000),
        )
    )
    engine = attending(llava)
    results = engine.attend([AttentionRequest(one) for one in (none, fine, two, long)])
    kinds = [result.kind if isinstance(result, Failure) else None for result in results]
    assert kinds == ["no_grid", None, "no_grid", "too_long"]
    assert engine.attend([]) == []


PROCESSORS: dict[str, Callable[[], Any] | None] = {
    **dict.fromkeys(ARCHITECTURES),
    "llava, cut to a square": lambda: CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    ),
    "llava, padded": lambda: LlavaImageProcessor(do_pad=True, do_center_crop=False, size={"height": 24, "width": 24}),
}


@pytest.mark.parametrize("size", [(96, 64), (60, 96)])
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_change_in_the_image_changes_the_cell_that_covers_it(
    name: str, size: tuple[int, int], checkpoint_of: Callable[..., Checkpoint]
) -> None:
    checkpoint = checkpoint_of(name.split(",")[0])
    _, processor = build(name.split(",")[0])
    if make := PROCESSORS[name]:
        processor.image_processor = make()
    encoder = ImageEncoder(checkpoint.model, processor, checkpoint.family, Counters())
    plain = Image.new("RGB", size, "gray")
    shown = ShownPicture(Picture(plain))
    find_grid = checkpoint.family.grid
    assert find_grid is not None
    grid = find_grid(encoder.preprocess(shown), processor, size)
    before = cells(encoder, shown, grid.first, grid.rows * grid.columns)
    places = [(row, column) for row in range(grid.rows) for column in range(grid.columns)]
    found = 0
    for row, column in places:
        box = grid.part(row, column)
        corners = (box.x1 * size[0], box.y1 * size[1], box.x2 * size[0], box.y2 * size[1])
        if min(corners) < 0 or corners[2] > size[0] or corners[3] > size[1]:
            continue  # in the padding
        changed = plain.copy()
        changed.paste("white", tuple(round(corner) for corner in corners))
        after = cells(encoder, ShownPicture(Picture(changed)), grid.first, grid.rows * grid.columns)
        change = (after - before).norm(dim=1)
        assert int(change.argmax()) == row * grid.columns + column
        found += 1
    assert found >= len(places) / 3


def cells(encoder: ImageEncoder, shown: ShownPicture, first: int, count: int) -> torch.Tensor:
    """Features of a grid's cells, (cells, hidden)."""
    with torch.inference_mode():
        return encoder.encode([shown], 1)[shown.key][first : first + count]
