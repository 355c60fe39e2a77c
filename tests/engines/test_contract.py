"""The engines' contract: how answers end, what becomes of requests that fail, memory that runs out, scores."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Picture, Score, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import engine_of
from tests.engines.asking import MIB, ask, completed, picture


@pytest.fixture(params=["llava", "mllama"])
def checkpoint(checkpoint_of: Callable[..., Checkpoint], request: pytest.FixtureRequest) -> Checkpoint:
    """One that a family's engine runs, and one that runs in `generate`."""
    return checkpoint_of(request.param)


def test_a_stop_string_ends_and_cuts_the_answer(checkpoint: Checkpoint) -> None:
    engine = engine_of(checkpoint, 4, 0)
    free = completed(engine.generate([ask(picture(), "is there", most=20)])[0])
    decode = checkpoint.processor.tokenizer.decode
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


def test_every_end_token_ends(checkpoint: Checkpoint) -> None:
    free = completed(engine_of(checkpoint, 1, 0).generate([ask(picture(), "is there", most=12)])[0])
    third = free.token_ids[2]
    ending = dataclasses.replace(checkpoint, end_ids=checkpoint.end_ids | {third})
    answer = completed(engine_of(ending, 1, 0).generate([ask(picture(), "is there", most=12)])[0])
    assert answer.finish == "eos"
    assert answer.token_ids == free.token_ids[: free.token_ids.index(third) + 1]
    assert math.isclose(answer.nll, -sum(answer.logprobs) / len(answer.token_ids))


def test_nothing_asked_for_is_nothing(checkpoint: Checkpoint) -> None:
    engine = engine_of(checkpoint, 4, 0)
    assert engine.generate([]) == []
    assert engine.generate([ask(picture(), "is there", most=0)]) == [Completion("", (), (), "length")]
    assert engine.score([ScoreRequest(ask(picture(), "is there").conversation, ())]) == [Score((), ())]


def test_one_bad_request_fails_alone(checkpoint: Checkpoint) -> None:
    engine = engine_of(checkpoint, 4, MIB)
    good = ask(picture(), "is there a cup")
    empty = Picture(Image.new("RGB", (0, 5)))
    bad = {
        "bad_conversation": GenerateRequest((), 4),
        "image_token_in_text": ask(picture(), f"is there {checkpoint.processor.image_token} here"),
        "too_long": ask(picture(), "cup " * 3000),
        "bad_image" if checkpoint.family.engine == "in_process" else "bad_input": ask(empty, "what"),
    }
    results = engine.generate([good, *bad.values(), good])
    assert [result.kind for result in results[1:-1] if isinstance(result, Failure)] == list(bad)
    alone = completed(engine.generate([good])[0])
    assert completed(results[0]).token_ids == completed(results[-1]).token_ids == alone.token_ids


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 3)])
@pytest.mark.parametrize("architecture", ["llava", "llava_next", "qwen2_5_vl", "mistral3", "lfm2_vl"])
def test_odd_pictures_are_answered_or_named(checkpoint_of: Any, architecture: str, size: tuple[int, int]) -> None:
    engine = engine_of(checkpoint_of(architecture), 4, MIB)
    results = engine.generate([ask(picture(1, size), "is there", most=2), ask(picture(), "is there", most=2)])
    assert isinstance(results[1], Completion)
    assert isinstance(results[0], Completion) or results[0].kind in ("bad_image", "bad_input")


class _ScarceMemory:
    """Makes a model's forward fail as the CPU allocator does when a batch has more than ``most`` rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any, most: int) -> None:
        self.most, self.forward = most, model.forward
        self.__signature__ = inspect.signature(model.forward)  # `generate` asks what it takes
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tokens = kwargs["inputs_embeds"] if kwargs.get("input_ids") is None else kwargs["input_ids"]
        if len(tokens) > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return self.forward(*args, **kwargs)


def test_out_of_memory_halves_the_batch(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [ask(picture(n), f"is there {n}") for n in range(9)]
    wanted = engine_of(checkpoint, 9, MIB).generate(requests)
    engine = engine_of(checkpoint, 9, MIB)
    _ScarceMemory(monkeypatch, checkpoint.model, most=2)
    assert [completed(c).token_ids for c in engine.generate(requests)] == [completed(c).token_ids for c in wanted]
    assert engine.counters.batch_halvings == 2
    assert "going on with 2" in caplog.text


def test_a_row_that_does_not_fit_is_named(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    _ScarceMemory(monkeypatch, checkpoint.model, most=0)
    results = engine_of(checkpoint, 4, MIB).generate([ask(picture(), "is there")])
    assert isinstance(results[0], Failure)
    assert results[0].kind == "out_of_memory"


def test_scores_of_an_answer_are_its_own_log_probabilities(checkpoint: Checkpoint) -> None:
    engine = engine_of(checkpoint, 4, MIB)
    request = ask(picture(), "is there a cup", most=12)
    answer = completed(engine.generate([request])[0])
    score = engine.score([ScoreRequest(request.conversation, answer.token_ids)])[0]
    assert isinstance(score, Score)
    assert all(score.greedy)
    assert np.allclose(score.logprobs, answer.logprobs, atol=1e-4)


def test_a_continuation_is_the_text_and_the_end_token(checkpoint_of: Any) -> None:
    ends = {"llava": "</s>", "llava_next": "</s>", "qwen2_vl": "<|im_end|>", "mistral3": "</s>", "mllama": "<|eot_id|>"}
    for architecture, end in ends.items():
        checkpoint = checkpoint_of(architecture)
        engine = engine_of(checkpoint, 1, 0)
        tokenizer = checkpoint.processor.tokenizer
        ids = engine.continuation(ask(picture(), "which").conversation, "red cup")
        assert tokenizer.decode(ids[:-1]).strip() == "red cup"
        assert ids[-1] == tokenizer.convert_tokens_to_ids(end)
