"""What the engine counts, how it ends answers, and what it does with requests that fail."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, Picture, Score, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine

MIB = 1 << 20


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise))


def ask(*content: str | Picture, most: int = 8, stop: tuple[str, ...] = ()) -> GenerateRequest:
    return GenerateRequest((Message("user", content),), most, stop)


def answered(request: GenerateRequest, completion: Completion | Failure, *content: str | Picture) -> GenerateRequest:
    assert isinstance(completion, Completion)
    told = Message("assistant", (completion.text,), completion.token_ids)
    return GenerateRequest((*request.conversation, told, Message("user", content)), 8)


def completed(completion: Completion | Failure) -> Completion:
    assert isinstance(completion, Completion), completion
    return completion


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_six_questions_share_one_image(llava: Checkpoint, batch_size: int) -> None:
    engine = TransformersEngine(llava, batch_size, MIB * 64)
    requests = [ask(picture(), f"is there {number} cup") for number in range(6)]
    requests += [ask(picture(), f"please provide the box of {number}") for number in range(6)]
    engine.generate(requests)
    prompts = [engine._renderer.render(request.conversation) for request in requests]
    to_image_end = prompts[0].boundaries[0].end
    assert engine.counters.images_encoded == 1
    assert engine.counters.tokens_prefilled == to_image_end + sum(len(p.ids) - to_image_end for p in prompts)
    assert engine.counters.tokens_reused == 11 * to_image_end


@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_second_pass_prefills_only_what_is_new(llava: Checkpoint, batch_size: int) -> None:
    engine = TransformersEngine(llava, batch_size, MIB * 64)
    first = [ask(picture(), f"please provide the box of {number}") for number in range(3)]
    answers = engine.generate(first)
    second = [
        answered(r, c, picture(7 + n), "what colour") for n, (r, c) in enumerate(zip(first, answers, strict=True))
    ]
    before = dataclasses.replace(engine.counters)
    engine.generate(second)
    new = 0
    for request, answer in zip(first, answers, strict=True):
        known = engine._renderer.render(request.conversation).ids
        # All of the first pass but a last token that was never fed back.
        fed = len(completed(answer).token_ids) - 1
        later = second[first.index(request)]
        new += len(engine._renderer.render(later.conversation).ids) - len(known) - fed
    assert engine.counters.tokens_prefilled - before.tokens_prefilled == new
    assert engine.counters.images_encoded == before.images_encoded + 3

    # Both candidates are scored after the crop; its states are there, and their prompt is prefilled once.
    before = dataclasses.replace(engine.counters)
    scoring = [
        (*request.conversation[:-1], Message("user", (request.conversation[-1].content[0], "red cup")))
        for request in second
    ]
    engine.score([ScoreRequest(c, ids) for c in scoring for ids in ((40, 41), (50, 51, 52))])
    prompts = [engine._renderer.render(c) for c in scoring]
    new = sum(len(p.ids) - 1 - p.boundaries[-1].end + 2 + 3 for p in prompts)
    assert engine.counters.tokens_prefilled - before.tokens_prefilled == new
    assert engine.counters.images_encoded == before.images_encoded


def test_prefilled_and_reused_are_all_prompt_tokens(llava: Checkpoint) -> None:
    requests = [ask(picture(n % 3), "is there a red cup " * (n + 1)) for n in range(7)]
    for budget in (0, 50_000, MIB * 64):
        engine = TransformersEngine(llava, 4, budget)
        engine.generate(requests)
        total = sum(len(engine._renderer.render(request.conversation).ids) for request in requests)
        assert engine.counters.tokens_prefilled + engine.counters.tokens_reused == total
        assert (engine.counters.tokens_reused == 0) == (budget == 0)


def test_a_stop_string_ends_and_cuts_the_answer(llava: Checkpoint) -> None:
    engine = TransformersEngine(llava, 4, 0)
    free = completed(engine.generate([ask(picture(), "is there", most=20)])[0])
    decode = llava.processor.tokenizer.decode
    at = next(
        n
        for n in range(3, len(free.token_ids))
        if decode(free.token_ids[n]).isascii() and decode(free.token_ids[n]).strip()
    )
    stop = decode(free.token_ids[at])
    stopped = completed(engine.generate([ask(picture(), "is there", most=20, stop=("never-said", stop))])[0])
    assert stopped.finish == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.token_ids == free.token_ids[: len(stopped.token_ids)]
    assert len(stopped.token_ids) <= at + 1


def test_every_end_token_ends(llava: Checkpoint) -> None:
    free = completed(TransformersEngine(llava, 1, 0).generate([ask(picture(), "is there", most=12)])[0])
    third = free.token_ids[2]
    ending = dataclasses.replace(llava, end_ids=llava.end_ids | {third})
    answer = completed(TransformersEngine(ending, 1, 0).generate([ask(picture(), "is there", most=12)])[0])
    assert answer.finish == "eos"
    assert answer.token_ids == free.token_ids[: free.token_ids.index(third) + 1]
    assert math.isclose(answer.nll, -sum(answer.logprobs) / len(answer.token_ids))


def test_nothing_asked_for_is_nothing(llava: Checkpoint) -> None:
    engine = TransformersEngine(llava, 4, 0)
    assert engine.generate([]) == []
    assert engine.generate([ask(picture(), "is there", most=0)]) == [Completion("", (), (), "length")]
    assert engine.score([ScoreRequest(ask(picture(), "is there").conversation, ())]) == [Score((), ())]


def test_one_bad_request_fails_alone(llava: Checkpoint) -> None:
    engine = TransformersEngine(llava, 4, MIB)
    good = ask(picture(), "is there a cup")
    empty = Picture(Image.new("RGB", (0, 5)))
    bad = {
        "bad_conversation": GenerateRequest((), 4),
        "image_token_in_text": ask(picture(), "is there <image> here"),
        "too_long": ask(picture(), "cup " * 3000),
        "bad_image": ask(empty, "what"),
    }
    results = engine.generate([good, *bad.values(), good])
    assert [result.kind for result in results[1:-1] if isinstance(result, Failure)] == list(bad)
    alone = completed(engine.generate([good])[0])
    assert completed(results[0]).token_ids == completed(results[-1]).token_ids == alone.token_ids


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 3)])
@pytest.mark.parametrize("architecture", ["llava", "llava_next", "qwen2_5_vl"])
def test_odd_pictures_are_answered_or_named(checkpoint_of: Any, architecture: str, size: tuple[int, int]) -> None:
    engine = TransformersEngine(checkpoint_of(architecture), 4, MIB)
    results = engine.generate([ask(picture(1, size), "is there", most=2), ask(picture(), "is there", most=2)])
    assert isinstance(results[1], Completion)
    assert isinstance(results[0], Completion) or results[0].kind == "bad_image"


class _ScarceMemory:
    """Makes a model's forward fail as the CPU allocator does when a batch has more than ``most`` rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any, most: int) -> None:
        self.most, self.forward = most, model.forward
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["inputs_embeds"].shape[0] > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return self.forward(*args, **kwargs)


def test_out_of_memory_halves_the_batch(
    llava: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [ask(picture(n), f"is there {n}") for n in range(9)]
    wanted = TransformersEngine(llava, 9, MIB).generate(requests)
    engine = TransformersEngine(llava, 9, MIB)
    _ScarceMemory(monkeypatch, llava.model, most=2)
    assert [completed(c).token_ids for c in engine.generate(requests)] == [completed(c).token_ids for c in wanted]
    assert engine.counters.batch_halvings == 2
    assert "going on with 2" in caplog.text


def test_a_row_that_does_not_fit_is_named(llava: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    _ScarceMemory(monkeypatch, llava.model, most=0)
    results = TransformersEngine(llava, 4, MIB).generate([ask(picture(), "is there")])
    assert isinstance(results[0], Failure)
    assert results[0].kind == "out_of_memory"


def test_a_row_is_tried_again_with_empty_caches(llava: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(llava, 1, MIB)
    wanted = engine.generate([ask(picture(), "is there"), ask(picture(1), "is there")])
    forward = llava.model.forward

    def scarce(*args: Any, **kwargs: Any) -> Any:
        if engine.prefix_cache.used > MIB // 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    assert engine.prefix_cache.used > MIB // 20
    monkeypatch.setattr(llava.model, "forward", scarce)
    again = engine.generate([ask(picture(), "is there"), ask(picture(1), "is there")])
    assert [completed(c).token_ids for c in again] == [completed(c).token_ids for c in wanted]


def test_other_errors_are_not_taken_for_memory(llava: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(llava.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        TransformersEngine(llava, 4, MIB).generate([ask(picture(), "is there")])


def test_scores_of_an_answer_are_its_own_log_probabilities(llava: Checkpoint) -> None:
    engine = TransformersEngine(llava, 4, MIB)
    request = ask(picture(), "is there a cup", most=12)
    answer = completed(engine.generate([request])[0])
    score = engine.score([ScoreRequest(request.conversation, answer.token_ids)])[0]
    assert isinstance(score, Score)
    assert all(score.greedy)
    assert np.allclose(score.logprobs, answer.logprobs, atol=1e-4)


def test_a_continuation_is_the_text_and_the_end_token(checkpoint_of: Any) -> None:
    for architecture, end in {"llava": "</s>", "llava_next": "</s>", "qwen2_vl": "<|im_end|>"}.items():
        checkpoint = checkpoint_of(architecture)
        engine = TransformersEngine(checkpoint, 1, 0)
        tokenizer = checkpoint.processor.tokenizer
        ids = engine.continuation(ask(picture(), "which").conversation, "red cup")
        assert tokenizer.decode(ids[:-1]).strip() == "red cup"
        assert ids[-1] == tokenizer.convert_tokens_to_ids(end)


def test_the_identity_changes_with_the_weights(llava: Checkpoint) -> None:
    from dualfocus_eval.engines.checkpoint import prepare
    from measurements.random_models import build

    same = prepare(*build("llava", torch.float32), llava.family, "llava")
    other = prepare(*build("llava", torch.float32, seed=1), llava.family, "llava")
    half = prepare(*build("llava", torch.bfloat16), llava.family, "llava")
    assert same.digest == llava.digest
    assert len({llava.digest, other.digest, half.digest}) == 3
