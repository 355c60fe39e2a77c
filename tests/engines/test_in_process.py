"""What the engine with prefix reuse counts, and what it does when memory is scarce."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
import torch

from dualfocus_eval.engines.base import Message, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine, engine_of
from tests.engines.asking import MIB, answered, ask, completed, picture


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


def test_the_identity_changes_with_the_weights(llava: Checkpoint) -> None:
    from dualfocus_eval.engines.checkpoint import prepare
    from measurements.random_models import build

    same = prepare(*build("llava", torch.float32), llava.family, "llava")
    other = prepare(*build("llava", torch.float32, seed=1), llava.family, "llava")
    half = prepare(*build("llava", torch.bfloat16), llava.family, "llava")
    assert same.digest == llava.digest
    assert len({llava.digest, other.digest, half.digest}) == 3


@pytest.mark.parametrize("family_engine", ["in_process", "generate"])
def test_marks_around_an_answer_are_no_part_of_its_text(
    llava: Checkpoint, family_engine: Literal["in_process", "generate"]
) -> None:
    request = ask(picture(), "is there a cup", most=12)
    (whole,) = map(completed, engine_of(llava, 1, 0).generate([request]))
    mark = whole.text[2:4]
    family = dataclasses.replace(llava.family, engine=family_engine, answer_marks=(mark,))
    engine = engine_of(dataclasses.replace(llava, family=family), 1, 0)
    kept, left_out = map(completed, engine.generate([request, dataclasses.replace(request, unmarked=True)]))
    assert kept.text == whole.text
    assert left_out == dataclasses.replace(kept, text=whole.text.replace(mark, ""))
