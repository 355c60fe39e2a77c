"""Thinking before the answer: told from it by the checkpoint's markers, within its budget, and never part of a turn."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Failure,
    GenerateRequest,
    Message,
    Picture,
    Score,
    ScoreRequest,
    Thinking,
)
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.generate import GenerateEngine
from dualfocus_eval.engines.in_process import TransformersEngine, engine_of
from dualfocus_eval.engines.template import ChatTemplate, RenderingError
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import ThinkingMarkers
from dualfocus_eval.families.generic import generic_family
from tests.engines.thinking_models import CLOSING, OPENING, TEMPLATES, thinking_checkpoint

noise = np.random.default_rng(0)
RED, NOISE, CROP = (
    Picture(Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    for width, height in ((50, 40), (40, 70), (30, 30))
)
QUESTIONS: tuple[Conversation, ...] = tuple(
    (Message("user", (picture, text)),)
    for picture in (RED, NOISE)
    for text in ("is there a red cup", "what colour has the ball", "how many people are in the picture", "yes or no")
)
BUDGET, LONGEST = 40, 9
checkpoint_of = functools.cache(thinking_checkpoint)


def second_round(answer: Sequence[int]) -> Conversation:
    return (*QUESTIONS[0], Message("assistant", ("unused",), tuple(answer)), Message("user", (CROP, "and this")))


# Against plain transformers, split by hand.


@torch.inference_mode()
def by_hand(checkpoint: Checkpoint, prompt: str, pictures: Sequence[Picture], opened: bool) -> dict[str, Any] | str:
    """What plain transformers generates after ``prompt``, taken apart; or the kind of the failure."""
    processor, tokenizer = checkpoint.processor, checkpoint.processor.tokenizer
    images = [picture.pixels for picture in pictures]
    inputs = processor(text=prompt, images=images, return_tensors="pt")
    settings = copy.deepcopy(checkpoint.generation_config)
    settings.update(max_new_tokens=BUDGET + LONGEST + 1, return_dict_in_generate=True, output_scores=True)
    output = checkpoint.model.generate(**inputs, generation_config=settings)
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    logprobs = torch.log_softmax(torch.cat(output.scores), dim=-1)[torch.arange(len(ids)), ids].tolist()
    begin = 0
    if opened or tokenizer.decode(ids[0]) == OPENING:
        closing = tokenizer.convert_tokens_to_ids(CLOSING)
        if closing not in ids[:BUDGET]:
            return "thinking_unfinished" if ids[-1] in checkpoint.end_ids and len(ids) <= BUDGET else "thinking_budget"
        begin = ids.index(closing) + 1
        while begin < len(ids) and not tokenizer.decode(ids[begin]).strip():
            begin += 1
    return {"ids": ids[begin : begin + LONGEST], "logprobs": logprobs[begin : begin + LONGEST], "thinking": begin}


def agrees(found: Completion | Failure, expected: dict[str, Any] | str) -> bool:
    if isinstance(found, Failure) or isinstance(expected, str):
        return isinstance(found, Failure) and found.kind == expected
    close = np.allclose(found.logprobs, expected["logprobs"], atol=1e-4)
    thought = found.thinking.tokens if found.thinking else 0
    return list(found.token_ids) == expected["ids"] and close and thought == expected["thinking"]


@functools.cache
def expected_of(template: str, opens: bool) -> list[dict[str, Any] | str]:
    checkpoint = checkpoint_of(template, opens=opens)
    prompts = [checkpoint.processor.apply_chat_template(_messages(c), add_generation_prompt=True) for c in QUESTIONS]
    opened = prompts[0].rstrip().endswith(OPENING)
    pictures = [[part for part in c[0].content if isinstance(part, Picture)] for c in QUESTIONS]
    return [by_hand(checkpoint, *each, opened) for each in zip(prompts, pictures, strict=True)]


def _messages(conversation: Conversation) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in message.content
            ],
        }
        for message in conversation
    ]


@pytest.mark.parametrize(("batch_size", "budget"), [(1, 0), (3, 1 << 28), (16, 1 << 28)])
@pytest.mark.parametrize(
    ("template", "opens"), [("opens", False), ("closes by default", False), ("leaves it to the model", True)]
)
def test_answers_are_those_of_plain_transformers_after_the_thinking(
    template: str, opens: bool, batch_size: int, budget: int
) -> None:
    engine = engine_of(checkpoint_of(template, opens=opens), batch_size, budget)
    found = engine.generate([GenerateRequest(question, LONGEST, (), BUDGET) for question in QUESTIONS])
    expected = expected_of(template, opens)
    assert all(map(agrees, found, expected)), (found, expected)
    answered = [one for one in found if isinstance(one, Completion)]
    assert len(answered) > len(QUESTIONS) // 2
    assert all((one.thinking is None) == (template == "closes by default") for one in answered)


@pytest.mark.parametrize(("template", "opens"), [("opens", False), ("leaves it to the model", True)])
def test_a_model_without_a_family_thinks_likewise(template: str, opens: bool) -> None:
    checkpoint = thinking_checkpoint(template, opens=opens, family=generic_family("qwen3_vl"))
    engine = engine_of(checkpoint, 3, 0)
    assert isinstance(engine, GenerateEngine)
    found = engine.generate([GenerateRequest(question, LONGEST, (), BUDGET) for question in QUESTIONS])
    expected = expected_of(template, opens)
    assert all(map(agrees, found, expected)), (found, expected)
    assert engine.counters.thinking_tokens > 20
    (at_once,) = engine.generate([GenerateRequest(QUESTIONS[0], 4, (), 0)])
    assert isinstance(at_once, Completion)
    (score,) = engine.score([ScoreRequest(QUESTIONS[0], at_once.token_ids)])
    assert isinstance(score, Score)
    (other,) = engine_of(checkpoint_of(template, opens=opens), 1, 0).score(
        [ScoreRequest(QUESTIONS[0], at_once.token_ids)]
    )
    assert isinstance(other, Score)
    np.testing.assert_allclose(score.logprobs, other.logprobs, atol=1e-4)


# What the tests above have to have met.


def test_the_thoughts_of_these_models_differ_in_length_and_some_run_out() -> None:
    lengths = [one["thinking"] for one in expected_of("opens", False) if not isinstance(one, str)]
    assert len(set(lengths)) > 2
    engine = TransformersEngine(checkpoint_of("opens"), 8, 0)
    few = max(lengths) - 3  # an empty line, and the marker itself
    results = engine.generate([GenerateRequest(question, LONGEST, (), few) for question in QUESTIONS])
    failures = [one for one in results if isinstance(one, Failure)]
    assert len(failures) < len(results)
    message = f"{few} tokens of thinking and no answer; raise max_thinking_tokens"
    assert Failure("thinking_budget", message) in failures
    assert engine.counters.thinking_tokens > len(failures) * few


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stop_text_ends_the_answer_and_not_the_thinking(batch_size: int) -> None:
    engine = TransformersEngine(checkpoint_of("opens"), batch_size, 0)
    whole = engine.generate([GenerateRequest(q, 6, (), BUDGET) for q in QUESTIONS[:4]])
    question, full = next(pair for pair in zip(QUESTIONS, whole, strict=False) if isinstance(pair[1], Completion))
    assert isinstance(full, Completion)
    assert full.thinking
    stop = full.text[2]
    (cut,) = engine.generate([GenerateRequest(question, 6, (stop, full.thinking.text[:3]), BUDGET)])
    assert isinstance(cut, Completion)
    assert cut.thinking == full.thinking
    assert cut.text == full.text[: full.text.index(stop)]
    assert cut.finish == "stop"
    assert cut.token_ids == full.token_ids[: len(cut.token_ids)]


def test_an_answer_between_markers_is_what_stands_between_them() -> None:
    engine = TransformersEngine(checkpoint_of("prints contents", opens=True, answer_markers=True), 8, 1 << 28)
    ids = engine.checkpoint.processor.tokenizer.convert_tokens_to_ids
    results = engine.generate([GenerateRequest(q, 30, (), BUDGET) for q in QUESTIONS])
    closed = [one for one in results if isinstance(one, Completion) and one.token_ids[-1] == ids("</answer>")]
    assert closed
    for one in closed:
        assert one.finish == "eos"
        assert one.thinking
        assert "answer>" not in one.text + one.thinking.text
        assert ids("<answer>") not in one.token_ids
        template = ChatTemplate.of(engine.checkpoint)
        assert template.pieces(second_round(one.token_ids))[0][1] == one.token_ids[:-1]


def test_a_turn_that_ends_while_thinking_has_a_failure_of_its_own() -> None:
    engine = TransformersEngine(checkpoint_of("opens"), 1, 0)
    chooser = engine._decoder.chooser
    tokenizer = engine.checkpoint.processor.tokenizer
    prompt = tuple(tokenizer("<|im_start|>assistant\n<think>\n")["input_ids"])
    answer = chooser.answer(prompt, GenerateRequest(QUESTIONS[0], 5, (), 9))
    logits = torch.zeros(1, len(tokenizer))
    logits[0, tokenizer.eos_token_id] = 50.0
    assert chooser.choose([answer], logits, lambda number: Failure("x", "x")) == []
    failure = answer.result()
    assert failure == Failure("thinking_unfinished", "the model ended its turn after 1 token of thinking")


# Prompts.

EARLIER = {
    "opens": "",
    "opens by default": "",
    "closes by default": "",
    "leaves it to the model": "<think></think>\n",
    "prints contents": "",
}
OPEN = {
    "opens": "<think>\n",
    "opens by default": "<think>\n",
    "closes by default": "<think>\n\n</think>\n\n",
    "leaves it to the model": "",
    "prints contents": "",
}
EMPTY = {
    "opens": "<think>\n\n</think>\n\n",
    "opens by default": "<think>\n\n</think>\n\n",
    "closes by default": "<think>\n\n</think>\n\n",
    "leaves it to the model": "<think></think>\n",
    "prints contents": "",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_earlier_turns_are_without_thinking_as_the_template_writes_them(template: str) -> None:
    rendered = ChatTemplate.of(checkpoint_of(template))
    (first, turn), (last, none) = rendered.pieces(second_round((70, 71)))
    assert (turn, none) == ((70, 71), ())
    assert first.endswith(f"<|im_start|>assistant\n{EARLIER[template]}")
    assert last.endswith(f"and this{'<|im_end|>' if 'prints' not in template else ''}{_line(template)}"
                         f"<|im_start|>assistant\n{OPEN[template]}")  # fmt: skip
    # What is generated first, and what both are scored after.
    ((prompt, _),) = rendered.pieces(QUESTIONS[0])
    assert prompt.endswith(f"<|im_start|>assistant\n{OPEN[template]}")
    ((answering, _),) = rendered.pieces(QUESTIONS[0], answering=True)
    assert answering.endswith(f"<|im_start|>assistant\n{EMPTY[template]}")
    assert rendered.pieces(second_round((70, 71)), answering=True)[0] == (first, turn)


@pytest.mark.parametrize("template", TEMPLATES)
def test_system_turns_are_texts_where_the_template_takes_them_for_texts(template: str) -> None:
    conversation = (Message("system", ("be brief",)), *QUESTIONS[0])
    ((text, _),) = ChatTemplate.of(checkpoint_of(template)).pieces(conversation)
    assert text.startswith("<|im_start|>system\nbe brief<")


def _line(template: str) -> str:
    return "" if template in ("leaves it to the model", "prints contents") else "\n"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_given_text_is_an_answer_without_thinking(template: str) -> None:
    checkpoint = checkpoint_of(template)
    ids = ChatTemplate.of(checkpoint).answer_ids(QUESTIONS[0], "a red cup")
    assert checkpoint.processor.tokenizer.decode(ids).startswith("a red cup")
    assert ids[-1] in checkpoint.end_ids
    assert len(ids) == len(checkpoint.processor.tokenizer("a red cup")["input_ids"]) + 1


def test_a_template_that_does_not_close_what_it_opens_is_closed() -> None:
    checkpoint = checkpoint_of("opens")
    checkpoint.processor.chat_template = TEMPLATES["opens"].replace("loop.last", "false")
    try:
        ((text, _),) = ChatTemplate.of(checkpoint).pieces(QUESTIONS[0], answering=True)
    finally:
        checkpoint.processor.chat_template = TEMPLATES["opens"]
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    "change",
    [
        ("{{ m['role'] }}", "{% if loop.index == 2 and not loop.last %}removed{% else %}{{ m['role'] }}{% endif %}"),
        ("{% for m in messages %}", "{% for m in messages if m['role'] == 'user' %}"),
        ("{% for m in messages %}", "{% for m in messages | sort(attribute='role', reverse=true) %}"),
    ],
    ids=["changes", "drops", "moves"],
)
@pytest.mark.parametrize("template", ["opens", "leaves it to the model"])
def test_any_other_change_of_earlier_turns_is_refused(template: str, change: tuple[str, str]) -> None:
    checkpoint = checkpoint_of(template)
    checkpoint.processor.chat_template = TEMPLATES[template].replace(*change)
    try:
        with pytest.raises(RenderingError, match="whose turns only append, or strategy=macro") as caught:
            ChatTemplate.of(checkpoint).pieces(second_round((70, 71)))
    finally:
        checkpoint.processor.chat_template = TEMPLATES[template]
    assert caught.value.kind == "chat_template"


@pytest.mark.parametrize("template", ["opens", "leaves it to the model"])
def test_answers_are_scored_after_an_empty_block(template: str) -> None:
    checkpoint = checkpoint_of(template)
    engine = TransformersEngine(checkpoint, 2, 1 << 28)
    told = (70, 71, 72)
    (score,) = engine.score([ScoreRequest(QUESTIONS[0], told)])
    prompt = checkpoint.processor.apply_chat_template(_messages(QUESTIONS[0]), add_generation_prompt=True)
    inputs = checkpoint.processor(
        text=prompt.removesuffix("<think>\n") + EMPTY[template], images=[RED.pixels], return_tensors="pt"
    )
    ids = torch.cat([inputs.pop("input_ids"), torch.tensor([told])], dim=1)
    inputs |= {
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == checkpoint.processor.image_token_id).int(),
    }
    with torch.inference_mode():
        logits = checkpoint.model(input_ids=ids, **inputs).logits[0, -4:-1]
    expected = torch.log_softmax(logits, dim=-1)[range(3), told].tolist()
    assert isinstance(score, Score)
    np.testing.assert_allclose(score.logprobs, expected, atol=1e-4)


def test_without_a_budget_the_block_is_closed_before_it_begins() -> None:
    engine = TransformersEngine(checkpoint_of("opens"), 2, 0)
    (found,) = engine.generate([GenerateRequest(QUESTIONS[0], 4, (), 0)])
    assert isinstance(found, Completion)
    assert found.thinking is None
    (score,) = engine.score([ScoreRequest(QUESTIONS[0], found.token_ids)])
    assert isinstance(score, Score)
    assert len(found.token_ids) == 4


# Among generated ids.

PIECES = (OPENING, CLOSING, "<answer>", "</answer>", "\n", " ", "red", " cup", "<|im_end|>")
pieces = st.lists(st.sampled_from(PIECES), max_size=12)


def _ids(checkpoint: Checkpoint, texts: Sequence[str]) -> list[int]:
    tokenizer = checkpoint.processor.tokenizer
    return [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


@given(pieces, st.booleans())
def test_what_comes_before_an_answer(texts: list[str], opened: bool) -> None:
    checkpoint = checkpoint_of("opens")
    thinking = checkpoint.thinking
    assert thinking
    prompt = _ids(checkpoint, ["cup\n", *([OPENING, "\n"] if opened else [])])
    ids = _ids(checkpoint, texts)
    begin = thinking.answer_begin(prompt, ids)
    text = thinking.text(ids)
    whole = (OPENING if opened else "") + text
    if not whole.lstrip().startswith((OPENING, "<answer>")):
        assert begin == 0
    elif begin is None:
        assert whole.rfind(OPENING) > whole.rfind(CLOSING) or CLOSING not in whole
    else:
        before, answer = thinking.text(ids[:begin]), thinking.text(ids[begin:])
        assert before + answer == text
        assert before.rstrip().endswith((CLOSING, "<answer>"))
        assert begin == len(ids) or thinking.text(ids[begin : begin + 1]).strip()
        assert not answer.startswith((OPENING, "<answer>"))
        record = thinking.thinking(ids[:begin])
        assert record.tokens == begin
        assert record.text == record.text.strip()


@given(pieces, st.booleans())
def test_reading_on_changes_nothing_that_was_known(texts: list[str], opened: bool) -> None:
    checkpoint = checkpoint_of("opens")
    assert checkpoint.thinking
    reader = checkpoint.thinking.reader(_ids(checkpoint, [OPENING] if opened else ["cup"]))
    ids: list[int] = []
    known = None
    for token in _ids(checkpoint, texts):
        ids.append(token)
        reader.read(ids)
        assert known is None or reader.begin == known
        known = reader.begin
        assert reader.after_thinking(len(ids)) <= len(ids)


class Letters:
    """A tokenizer of single letters: no marker is one token."""

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        return "".join(map(chr, ids))


@given(st.text("abc <>/think\n", max_size=20), st.text("abc\n", min_size=1, max_size=8))
def test_markers_of_several_tokens(thought: str, answer: str) -> None:
    spelled = ThinkingFormat(ThinkingMarkers(), Letters())
    generated = f"{OPENING}{thought.replace(CLOSING, '')}{CLOSING}\n{answer}"
    begin = spelled.answer_begin([], list(map(ord, generated)))
    assert begin is not None
    assert generated[begin:] == (answer.lstrip() or generated[begin:])
    assert spelled.answer_begin([], list(map(ord, generated.partition(CLOSING)[0]))) is None
    assert spelled.answer_begin([], list(map(ord, answer))) == 0


def test_markers_with_a_label() -> None:
    """Gemma 4's: a channel with a name."""
    channel = ThinkingFormat(ThinkingMarkers("<|channel>thought", "<channel|>"), Letters())
    text = "<|channel>thought\nIt is red.<channel|>Red."
    begin = channel.answer_begin([], list(map(ord, text)))
    assert begin == text.index("Red.")
    assert channel.thinking(list(map(ord, text[:begin]))) == Thinking("It is red.", begin)
    assert channel.is_closed("<|turn>model\n<|channel>thought\n<channel|>")
    assert channel.is_open("<|turn>model\n<|channel>thought\n")
    assert channel.same_but_for_block("<|turn>model\n<|channel>thought\n<channel|>", "<|turn>model\n")


def test_a_checkpoint_without_markers_does_not_think() -> None:
    processor = checkpoint_of("opens").processor
    assert ThinkingFormat.of(processor, ThinkingMarkers("<reason>", "</reason>")) is None
    assert ThinkingFormat.of(processor, ThinkingMarkers("<think>", "</think>"))
