"""Training conversations: what they say, and which of their tokens are targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.train.collator import IGNORED, ConversationCollator, Prepared, SampleEncoder
from dualfocus_eval.train.conversations import Sample, SceneConversations
from dualfocus_eval.train.corpus import scene_corpus
from dualfocus_eval.train.plan import MIXTURE
from tests.train.conftest import SHAPE


def conversations(kind: str, samples: int = 12) -> SceneConversations:
    return SceneConversations(5, 0, samples, {kind: 1.0}, wording="released", margin=12.0)


def answers(sample: Sample) -> list[str]:
    return [message["content"][0]["text"] for message in sample.messages[1::2]]


@pytest.mark.parametrize("kind", MIXTURE)
def test_labels_are_the_answers_and_their_end_tokens(kind: str, processor: Any) -> None:
    """Against a plain tokenisation of the rounds, one by one."""
    encode, tokenizer = SampleEncoder(processor, SHAPE.image_size), processor.tokenizer
    for sample in conversations(kind):
        (encoded,) = encode(sample)
        expected = [
            token
            for answer, trained in zip(answers(sample), sample.targets, strict=True)
            if trained
            for token in (*tokenizer(answer).input_ids, tokenizer.eos_token_id)
        ]
        labels = encoded["labels"]
        assert labels[labels != IGNORED].tolist() == expected
        assert (encoded["input_ids"][labels != IGNORED] == labels[labels != IGNORED]).all()


@pytest.mark.parametrize(("kind", "images"), [("macro", 1), ("grounding", 1), ("dualfocus", 2)])
def test_every_image_has_its_tokens(kind: str, images: int, processor: Any) -> None:
    (encoded,) = SampleEncoder(processor, SHAPE.image_size)(conversations(kind)[0])
    assert encoded["images"].shape == (images, 32, 32, 3)
    assert int((encoded["input_ids"] == processor.image_token_id).sum()) == images * (32 // 8) ** 2


def test_boxes_are_written_so_that_they_parse() -> None:
    for sample in conversations("grounding"):
        for answer in answers(sample):
            assert parse_box(answer, "unit", image_size=(448, 448)).outcome == "ok"


def test_a_wrong_box_is_never_a_target() -> None:
    samples = list(conversations("dualfocus", 120))
    wrong = [sample for sample in samples if not all(sample.targets)]
    assert 0 < len(wrong) < 40
    assert all(sample.targets[0] is False and all(sample.targets[1:]) for sample in wrong)


def test_every_word_of_a_conversation_is_one_token(processor: Any) -> None:
    rendered = processor.apply_chat_template(list(conversations("dualfocus")[0].messages), tokenize=False)
    tokens = processor.tokenizer.tokenize(rendered)
    assert len(tokens) < len(rendered.split()) * 2
    assert processor.tokenizer.decode(processor.tokenizer(rendered).input_ids) == rendered
    assert len(list(scene_corpus("released"))) > 1000


def test_padding_is_neither_attended_nor_trained(processor: Any) -> None:
    encode = SampleEncoder(processor, SHAPE.image_size)
    rows = [encode(conversations(kind)[0])[0] for kind in MIXTURE]
    batch = ConversationCollator(processor)(rows)
    assert batch["pixel_values"].shape == (4, 3, 32, 32)
    for row, length in enumerate(len(entry["input_ids"]) for entry in rows):
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
        assert (batch["labels"][row, length:] == IGNORED).all()
    assert batch["labels"].dtype == torch.int64


def test_prepared_examples_do_not_depend_on_the_number_of_processes(processor: Any) -> None:
    source, encode = conversations("macro", 6), SampleEncoder(processor, SHAPE.image_size)
    one, two = Prepared(source, encode, 1), Prepared(source, encode, 2)
    for first, second in zip(one.examples, two.examples, strict=True):
        assert all(np.array_equal(first[key], second[key]) for key in first)
