"""Training conversations: what they say, and which of their tokens are targets."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.method.boxes import format_box, parse_box
from dualfocus_eval.method.prompts import LETTER_HINT
from dualfocus_eval.method.stems import stem_of
from dualfocus_eval.tiny.scenes.layout import GROUP_SIDE, Scene, compose
from dualfocus_eval.tiny.scenes.multiple_choice import CHOICE_KINDS, choices_of
from dualfocus_eval.tiny.scenes.questions import NOUNS, ask
from dualfocus_eval.tiny.training.collator import ConversationCollator, Prepared, SampleEncoder
from dualfocus_eval.tiny.training.corpus import scene_corpus
from dualfocus_eval.tiny.training.plan import MIXTURE
from dualfocus_eval.tiny.training.scene_conversations import (
    SceneConversations,
    SceneSample,
    _seen,
    existence_questions,
)
from dualfocus_eval.training.encoding import IGNORED
from tests.tiny.training.conftest import SHAPE


def conversations(kind: str, samples: int = 12) -> SceneConversations:
    return SceneConversations(5, 0, samples, {kind: 1.0}, prompt_set="released", margin=12.0)


def answers(sample: SceneSample) -> list[str]:
    return [message["content"][0]["text"] for message in sample.messages[1::2]]


@pytest.mark.parametrize("kind", MIXTURE)
def test_labels_are_the_answers_and_their_end_tokens(kind: str, processor: Any) -> None:
    """Against a plain tokenisation of the rounds, one by one."""
    encode, tokenizer = SampleEncoder(processor, SHAPE.image_size), processor.tokenizer
    for sample in conversations(kind):
        (encoded,) = encode(sample)
        expected = [
            token
            for answer, turn in zip(answers(sample), sample.turns, strict=True)
            if turn.trained
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
    wrong = [sample for sample in samples if not all(turn.trained for turn in sample.turns)]
    assert 0 < len(wrong) < 40
    assert all(not sample.turns[0].trained and all(turn.trained for turn in sample.turns[1:]) for sample in wrong)


def test_no_untrained_box_settles_an_existence_question() -> None:
    """Neither the whole image nor an object's: both are followed by yes and by no."""
    trained = 0
    answered: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    whole_image = format_box(Box(0.0, 0.0, 1.0, 1.0), "unit", image_size=(448, 448))
    for sample in conversations("existence", 300):
        boxes = [turn for turn in sample.turns if turn.grounding]
        assert not any(turn.trained and turn.answer == whole_image for turn in boxes)
        if len(boxes) == len(sample.turns):
            assert all(turn.trained for turn in boxes)
        else:
            first, second = sample.turns[:2]
            assert second.answer == "yes" or not first.trained
            trained += first.trained
            if not first.trained:
                answered[first.answer == whole_image][second.answer] += 1
    for counted in answered.values():
        assert 0.1 < counted["yes"] / counted.total() < 0.4
    assert trained > 50


def test_existence_is_asked_of_small_objects_first() -> None:
    for sample in range(60):
        scene = compose(5, sample)
        sides = {item.name: item.box[2] - item.box[0] for item in scene.items}
        asked = existence_questions(scene, random.Random(sample))
        assert [entry.answer for entry in asked[:2]] in (["yes", "no"], ["no", "yes"])
        (first,) = (entry for entry in asked[:2] if entry.answer == "yes")
        if min(sides.values()) <= GROUP_SIDE[1]:
            assert sides[scene.items[first.referents[0]].name] <= GROUP_SIDE[1]


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
    assert batch["pixel_values"].shape == (sum(len(entry["images"]) for entry in rows), 3, 32, 32)
    for row, length in enumerate(len(entry["input_ids"]) for entry in rows):
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
        assert (batch["labels"][row, length:] == IGNORED).all()
    assert batch["labels"].dtype == torch.int64


def test_evidence_marks_the_patches_under_its_boxes(processor: Any) -> None:
    """A grid of four by four patches; a box smaller than a patch has the one that holds its middle."""
    sample = conversations("dualfocus")[0]
    boxes = ((0, Box(0.0, 0.0, 0.5, 0.26)), (1, Box(0.80, 0.30, 0.85, 0.35)))
    moved = replace(sample, turns=tuple(replace(turn, evidence=boxes) for turn in sample.turns))
    (encoded,) = SampleEncoder(processor, SHAPE.image_size)(moved)
    for grids in encoded["evidence"].reshape(-1, 2, 4, 4):
        assert np.argwhere(grids).tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 3]]


def test_evidence_is_seen_in_the_crop_that_holds_it() -> None:
    scene, crop = Scene(0, 0, "park", 400, 200, ()), Crop(100, 50, 200, 150)
    assert _seen(scene, crop, (140, 60, 160, 80)) == (1, Box(0.4, 0.1, 0.6, 0.3))
    assert _seen(scene, crop, (190, 60, 230, 80)) == (0, Box(0.475, 0.3, 0.575, 0.4))


def test_a_detail_rests_on_its_mark_and_a_box_on_its_object() -> None:
    for index in range(30):
        scene = compose(5, index)
        for entry in ask(scene, random.Random(0)):
            items = [scene.items[number] for number in entry.referents]
            marks = [item.mark.box for item in items if item.mark is not None]
            detail = entry.level == "detail"
            assert list(entry.evidence) == (marks if detail else [item.box for item in items])


def test_evidence_is_asked_of_the_token_before_the_answers(processor: Any) -> None:
    encode = SampleEncoder(processor, SHAPE.image_size)
    rows = [encode(conversations(kind)[0])[0] for kind in MIXTURE]
    batch = ConversationCollator(processor)(rows)
    for row, encoded in enumerate(rows):
        (patches,) = np.nonzero(encoded["input_ids"] == processor.image_token_id)
        asked = {
            (target - 1, int(patch))
            for target, turn in enumerate(encoded["turns"])
            if turn >= 0
            if encoded["input_ids"][target] != processor.tokenizer.eos_token_id
            for patch in patches[encoded["evidence"][turn]]
        }
        assert {(query, key) for query, key in batch["evidence"][row].nonzero().tolist()} == asked
        assert all(key <= query for query, key in asked)


@pytest.mark.parametrize("kind", MIXTURE)
def test_the_subject_of_an_answer_is_what_its_question_names(kind: str, processor: Any) -> None:
    """In a conversation of several questions, each answer has the nouns of its own."""
    named = 0
    for sample in conversations(kind):
        (encoded,) = SampleEncoder(processor, SHAPE.image_size)(sample)
        for turn, message in enumerate(sample.messages[::2]):
            words = processor.tokenizer.decode(encoded["input_ids"][encoded["subjects"] == turn]).split()
            prompt = message["content"][-1]["text"].replace("bounding box", "").replace("?", " ")
            stem = " ".join(line for line in prompt.split("\n") if line[1:2] != ".")
            assert words == [word for word in stem.split() if word in NOUNS]
            named += len(words)
        assert (encoded["turns"][encoded["subjects"] >= 0] == -1).all()
    assert named > 20


def test_a_choice_is_answered_by_the_text_of_an_option() -> None:
    asked = 0
    for sample in conversations("choice", 60):
        for message, answer in zip(sample.messages[::2], answers(sample), strict=True):
            prompt = message["content"][-1]["text"]
            if LETTER_HINT in prompt:
                options = stem_of(prompt.split(": ", 1)[-1]).options
                assert 2 <= len(set(options)) == len(options) <= 4
                assert answer in options
                asked += 1
    assert asked > 60


def test_choices_ask_in_every_kind_and_after_both_numbers_of_rounds() -> None:
    rounds = {
        sum(part["type"] == "image" for message in sample.messages for part in message["content"])
        for sample in conversations("choice", 30)
    }
    assert rounds == {1, 2}
    plain = SceneConversations(5, 0, 30, {"macro": 1.0, "choice": 3.0}, prompt_set="released", margin=12.0)
    images = {sum(part["type"] == "image" for one in sample.messages for part in one["content"]) for sample in plain}
    assert images == {1}
    kinds = {
        kind for index in range(30) for kind in CHOICE_KINDS if choices_of(compose(5, index), kind, random.Random(0))
    }
    assert kinds == set(CHOICE_KINDS)


def test_the_order_counts_from_the_start_of_each_answer(processor: Any) -> None:
    (encoded,) = SampleEncoder(processor, SHAPE.image_size)(conversations("grounding")[0])
    batch = ConversationCollator(processor)([encoded])
    counted: list[int] = []
    for position, turn in enumerate(encoded["turns"]):
        if turn >= 0:
            counted.append(counted[-1] + 1 if encoded["turns"][position - 1] == turn else 0)
    targets = np.flatnonzero(encoded["turns"] >= 0)
    asked = torch.from_numpy(targets - 1)
    assert batch["order"][0, asked].tolist() == counted
    lengths = np.bincount(encoded["turns"][targets])
    assert batch["weight"][0, asked].tolist() == pytest.approx(
        [1 / lengths[turn] for turn in encoded["turns"][targets]]
    )
    assert float(batch["weight"].sum()) == pytest.approx(len(lengths))
    assert batch["grounding"][0, asked].all()
    assert (batch["aspect"] == -1).all()


def test_prepared_examples_do_not_depend_on_the_number_of_processes(processor: Any) -> None:
    source, encode = conversations("macro", 6), SampleEncoder(processor, SHAPE.image_size)
    one, two = Prepared(source, encode, 1), Prepared(source, encode, 2)
    for first, second in zip(one.examples, two.examples, strict=True):
        assert all(np.array_equal(first[key], second[key]) for key in first)
