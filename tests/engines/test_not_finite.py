"""Logits that are NaN or infinite: the row fails by name, the others are as they were."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from PIL import Image

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, Picture, Score, ScoreRequest
from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.families import FAMILIES
from measurements.random_models import build

MIB = 1 << 20
NAN = float("nan")
RED = Picture(Image.new("RGB", (40, 30), "red"))


def ask(text: str) -> GenerateRequest:
    return GenerateRequest((Message("user", (RED, text)),), 6)


def engine_of(model: Any, processor: Any, batch_size: int = 4) -> TransformersEngine:
    return TransformersEngine(prepare(model, processor, FAMILIES["llava"], "x"), batch_size, MIB)


def spoil_token(model: Any, token: int) -> None:
    """Whatever reads ``token`` has no numbers from there on."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = NAN


def failed(result: object) -> str:
    assert isinstance(result, Failure), result
    assert result.kind == "not_finite"
    return result.message


@pytest.mark.parametrize(
    ("dtype", "advice"), [(torch.float16, "try dtype=bfloat16 or dtype=float32"), (torch.bfloat16, None)]
)
def test_an_overflow_is_named_with_what_to_try(
    dtype: torch.dtype, advice: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = build("qwen2_vl")
    with torch.no_grad():  # as large as activations of published checkpoints; float16 ends at 65504
        model.model.language_model.layers[0].mlp.down_proj.weight.mul_(3e4)
    engine = TransformersEngine(prepare(model.to(dtype), processor, FAMILIES["qwen2_vl"], "x"), 1, 0)
    with caplog.at_level(logging.ERROR):
        answers = engine.generate([ask("is there a red cup"), ask("how many people")])
        scores = engine.score([ScoreRequest(ask("is there a red cup").conversation, (62, 341))])
    if advice is None:
        assert all(isinstance(answer, Completion) for answer in answers)
        assert isinstance(scores[0], Score)
        assert not caplog.messages
    else:
        assert all(advice in failed(result) for result in [*answers, *scores])
        assert len([message for message in caplog.messages if "first batch" in message]) == 1


def test_only_the_row_itself_fails() -> None:
    model, processor = build("llava")
    texts = ["is there a red cup", "how many people", "what colour has zebra"]
    wanted = engine_of(model, processor).generate([ask(text) for text in texts[:2]])
    token = processor.tokenizer("zebra", add_special_tokens=False)["input_ids"][0]
    ids = {number for text in texts[:2] for number in processor.tokenizer(f" {text}")["input_ids"]}
    assert token not in ids
    spoil_token(model, token)
    engine = engine_of(model, processor)
    first, second, third = engine.generate([ask(text) for text in texts])
    assert [answer.token_ids for answer in (first, second)] == [answer.token_ids for answer in wanted]  # type: ignore[union-attr]
    assert "damaged, or its training diverged" in failed(third)
    assert engine.counters.batch_halvings == 0
    scores = engine.score([ScoreRequest(ask(text).conversation, (40, 41)) for text in texts])
    assert [type(score) for score in scores] == [Score, Score, Failure]


def test_a_number_that_is_lost_while_decoding() -> None:
    model, processor = build("llava")
    engine = engine_of(model, processor)
    (answer,) = engine.generate([ask("is there a red cup")])
    assert isinstance(answer, Completion)
    assert len(answer.token_ids) > 1
    assert answer.token_ids[0] not in engine._renderer.render(ask("is there a red cup").conversation).ids
    spoil_token(model, answer.token_ids[0])
    failed(engine_of(model, processor).generate([ask("is there a red cup")])[0])


def test_tokens_that_the_checkpoint_rules_out_are_no_failure() -> None:
    model, processor = build("llava")
    (free,) = engine_of(model, processor).generate([ask("is there a red cup")])
    assert isinstance(free, Completion)
    model.generation_config.suppress_tokens = [free.token_ids[0]]
    (answer,) = engine_of(model, processor).generate([ask("is there a red cup")])
    assert isinstance(answer, Completion)
    assert answer.token_ids[0] != free.token_ids[0]


def test_features_of_a_picture_that_are_no_numbers() -> None:
    model, processor = build("llava")
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.bias[0] = NAN
    plain = GenerateRequest((Message("user", ("is there a red cup",)),), 6)
    seen, unseen = engine_of(model, processor).generate([ask("is there a red cup"), plain])
    assert "the vision encoder's features are NaN" in failed(seen)
    assert isinstance(unseen, Completion)
