"""The engine for models without a family: `generate` in batches gives what it gives one conversation at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, ScoreRequest
from dualfocus_eval.engines.batch_inputs import BatchPreparer
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.generate import GenerateEngine
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.families.generic import generic_family
from measurements.exactness import compare, random_checkpoint
from measurements.plain_reference import Reference, reference
from measurements.random_models import build
from measurements.random_models.generic import BUILDERS
from tests.engines.asking import answered, ask, completed, picture


@functools.cache
def _expected(architecture: str, dtype: torch.dtype) -> tuple[Checkpoint, Reference]:
    checkpoint = random_checkpoint(architecture, dtype)
    return checkpoint, reference(checkpoint, count=3, longest=10)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("architecture", BUILDERS)
def test_float32_agrees_with_plain_generate(architecture: str, batch_size: int) -> None:
    result = compare(*_expected(architecture, torch.float32), batch_size, "off", seed=batch_size)
    assert result.holds(exact=False), result
    assert result.rows == 15
    assert result.tokens > 50


@pytest.mark.parametrize("architecture", BUILDERS)
def test_float64_is_identical(architecture: str) -> None:
    result = compare(*_expected(architecture, torch.float64), batch_size=3, cache="off")
    assert result.holds(exact=True), result
    assert result.worst < 1e-6


@pytest.mark.prove
@pytest.mark.parametrize("architecture", BUILDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_long_form(architecture: str, dtype: torch.dtype) -> None:
    checkpoint = random_checkpoint(architecture, dtype)
    expected = reference(checkpoint, count=67)
    for batch_size in (1, 3, 16):
        result = compare(checkpoint, expected, batch_size, "off", seed=batch_size)
        assert result.rows >= 200
        assert result.holds(exact=dtype == torch.float64), (batch_size, result)


@pytest.fixture
def mllama(checkpoint_of: Callable[..., Checkpoint]) -> Checkpoint:
    return checkpoint_of("mllama")


def test_images_change_the_answers(checkpoint_of: Callable[..., Checkpoint]) -> None:
    for architecture in BUILDERS:
        engine = GenerateEngine(checkpoint_of(architecture), 4)
        one, other = engine.generate([ask(picture(seed), "is there a cup") for seed in (0, 1)])
        assert completed(one).logprobs != completed(other).logprobs


@pytest.mark.parametrize("architecture", BUILDERS)
def test_generated_turns_stand_between_the_processors_own_ids(
    checkpoint_of: Callable[..., Checkpoint], architecture: str
) -> None:
    checkpoint = checkpoint_of(architecture)
    processor = checkpoint.processor
    first = ask(picture(), "please provide the box")
    told = (70, 71, 72)
    later = answered(first, Completion("unused", told, (), "length"), picture(1, (90, 30)), "what colour")
    preparer = BatchPreparer(ChatTemplate.of(checkpoint), checkpoint.default_end_id)
    shown = [preparer.prepared(request.conversation) for request in (later, first)]
    batch = preparer.batch(shown[:1])

    # By hand: the word "zzzzz" in place of the turn.
    said = Message("assistant", ("zzzzz",))
    conversation = (*first.conversation, said, later.conversation[-1])
    text = preparer.prepared(conversation).text
    images = [part.pixels for message in conversation for part in message.content if not isinstance(part, str)]
    whole = processor(text=[text], images=[images], add_special_tokens=False, return_tensors="pt")
    ids, word = whole["input_ids"][0].tolist(), processor.tokenizer("zzzzz", add_special_tokens=False)["input_ids"]
    (place,) = [at for at in range(len(ids)) if ids[at : at + len(word)] == word]
    assert batch.prompt_ids[0] == (*ids[:place], *told, *ids[place + len(word) :])
    alone = preparer.batch(shown[1:]).prompt_ids[0]
    assert batch.prompt_ids[0][: len(alone) + 3] == (*alone, *told)
    # An end token is the template's to write.
    ended = answered(
        first, Completion("", (*told, checkpoint.default_end_id), (), "eos"), picture(1, (90, 30)), "what colour"
    )
    assert preparer.batch([preparer.prepared(ended.conversation)]).prompt_ids == batch.prompt_ids


def test_what_is_said_of_every_token_is_said_of_a_turns(mllama: Checkpoint) -> None:
    preparer = BatchPreparer(ChatTemplate.of(mllama), mllama.default_end_id)
    first = ask(picture(), "please provide the box")
    told = Completion("unused", (70, 71, 72), (), "length")
    rows = [answered(first, told, picture(1), "what colour"), answered(first, told, picture(1), "what")]
    batch = preparer.batch([preparer.prepared(row.conversation) for row in rows])
    seen = batch.tensors["cross_attention_mask"]  # (rows, length, images, tiles)
    assert seen.shape[:2] == batch.tensors["input_ids"].shape == batch.tensors["attention_mask"].shape
    for number, ids in enumerate(batch.prompt_ids):
        own = seen[number, -len(ids) :]
        crop = [at for at, token in enumerate(ids) if token == mllama.processor.image_token_id][1]
        assert own[:crop, 1].sum() == 0
        assert own[crop:, 1].sum() > 0
        assert (own[ids.index(70) : ids.index(70) + 3, 0] == own[ids.index(70) - 1, 0]).all()


def test_a_turn_before_plain_text_leaves_its_tokens_as_they_are() -> None:
    """SentencePiece's tokenizers put a space before a text that follows a special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "<image>", "▁", "U", "S", "E", "R", ":", "A", "a", "\n", "▁U", "▁a"]
    backend = Tokenizer(models.BPE({w: n for n, w in enumerate(words)}, [("▁", "U"), ("▁", "a")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.add_special_tokens(["<unk>", "</s>", "<image>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")

    class Processor:
        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

        def __call__(self, text: list[str], **kwargs: Any) -> Any:
            return self.tokenizer(text, padding=True, return_tensors="pt", return_token_type_ids=False)

        def apply_chat_template(self, messages: Any, add_generation_prompt: bool, **kwargs: Any) -> str:
            turns = ["".join(part.get("text", "") for part in message["content"]) for message in messages]
            roles = ["A" if message["role"] == "assistant" else "USER" for message in messages]
            text = "\n".join(f"{role}:{turn}" for role, turn in zip(roles, turns, strict=True))
            return f"{text}\nA:" if add_generation_prompt else text

    preparer = BatchPreparer(ChatTemplate(Processor(tokenizer), frozenset({1}), 1), pad_id=1)
    preparer.__dict__["_per_token"] = frozenset({"input_ids", "attention_mask"})
    told = Message("assistant", ("a",), (13,))
    conversation = (Message("user", ("a",)), told, Message("user", ("a",)))
    (ids,) = preparer.batch([preparer.prepared(conversation)]).prompt_ids
    assert ids == tuple(tokenizer("USER:a\nA: a\nUSER:a\nA:")["input_ids"])


def test_counts(mllama: Checkpoint) -> None:
    engine = GenerateEngine(mllama, 4)
    requests = [ask(picture(number), "is there a cup", most=number + 1) for number in range(3)]
    answers = [completed(found) for found in engine.generate(requests)]
    counters = engine.counters
    assert counters.images_encoded == 3
    assert counters.tokens_reused == 0
    preparer = BatchPreparer(ChatTemplate.of(mllama), mllama.default_end_id)
    prompts = preparer.batch([preparer.prepared(request.conversation) for request in requests]).prompt_ids
    assert counters.tokens_prefilled == sum(map(len, prompts))
    assert counters.decode_steps == sum(len(answer.token_ids) - 1 for answer in answers)
    assert set(counters.seconds) == {"preprocess", "prefill", "decode"}


def test_what_the_model_cannot_take_is_named_and_ends_no_other_row(
    mllama: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = GenerateEngine(mllama, 4).generate([ask(picture(1), "is there")])
    forward = mllama.model.model.vision_model.forward
    marked = GenerateEngine(mllama, 4)._preparer
    odd = ask(picture(2, (90, 8)), "is there")
    pixels = marked.batch([marked.prepared(odd.conversation)]).tensors["pixel_values"][0, 0, 0]

    def picky(pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        if any(torch.equal(row[0, 0], pixels) for row in pixel_values):
            raise RuntimeError("shape '[1, 138, 2, -1]' is invalid")
        return forward(pixel_values=pixel_values, **kwargs)

    monkeypatch.setattr(mllama.model.model.vision_model, "forward", picky)
    failed, kept = GenerateEngine(mllama, 4).generate([odd, ask(picture(1), "is there")])
    assert isinstance(failed, Failure)
    assert failed.kind == "bad_input"
    assert "shape '[1, 138, 2, -1]'" in failed.message
    assert [completed(kept).token_ids] == [completed(found).token_ids for found in wanted]


def test_a_row_without_finite_logits_fails_alone() -> None:
    model, processor = build("lfm2_vl")
    checkpoint = prepare(model.to(torch.float16), processor, generic_family("lfm2_vl"), "x")
    requests = [ask(picture(), "is there"), ask(picture(1), "is there")]
    given = [ScoreRequest(request.conversation, (40, 41)) for request in requests]
    lost = processor.tokenizer(" there", add_special_tokens=False)["input_ids"][0]
    engine = GenerateEngine(checkpoint, 4)
    model.get_input_embeddings().weight.data[lost] = torch.nan
    sound = ask(picture(2), "cup")
    results = engine.generate([*requests, sound])
    for found in (*results[:2], *engine.score(given)):
        assert isinstance(found, Failure)
        assert found.kind == "not_finite"
        assert "float16; try dtype=bfloat16 or dtype=float32" in found.message
    assert isinstance(results[2], Completion)


def test_a_template_that_rewrites_turns_is_refused(mllama: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(mllama.processor).apply_chat_template

    def counting(self: Any, messages: list[dict[str, Any]], **kwargs: Any) -> str:
        return f"{len(messages)} turns. {original(self, messages, **kwargs)}"

    monkeypatch.setattr(type(mllama.processor), "apply_chat_template", counting)
    first = ask(picture(), "please provide the box")
    later: GenerateRequest = answered(first, Completion("", (70,), (), "length"), picture(1), "what")
    (found,) = GenerateEngine(mllama, 4).generate([later])
    assert isinstance(found, Failure)
    assert found.kind == "chat_template"


def test_a_text_alone_is_answered_beside_images(mllama: Checkpoint) -> None:
    text = GenerateRequest((Message("user", ("is there a cup",)),), 5)
    both = GenerateEngine(mllama, 4).generate([ask(picture(), "is there"), text])
    assert completed(both[1]) == completed(GenerateEngine(mllama, 1).generate([text])[0])
