"""Both passes of a checkpoint that thinks: random weights, the whole pipeline, its traces and its counts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion, Engine, Failure, GenerateRequest, Message, Picture, ScoreRequest
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.harness.summary import Summary
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.grounding.text_box import TEXT_BOX
from dualfocus_eval.method.pipeline import answer, loglikelihood
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.store import TraceStore
from tests.engines.thinking_models import CLOSING, OPENING, thinking_checkpoint

noise = np.random.default_rng(0)
PICTURES = [Picture(Image.fromarray(noise.integers(0, 256, (60, side, 3), dtype=np.uint8))) for side in (40, 80)]
STEMS = ("is there a red cup", "what colour has the ball", "how many people are in the picture", "yes or no")
QUESTIONS = [
    Question(f"t/{number}", f"{stem}?", f"{stem}?", (picture,), max_new_tokens=9)
    for number, (picture, stem) in enumerate((picture, stem) for picture in PICTURES for stem in STEMS)
]


@dataclass(frozen=True)
class Anywhere:
    """Asks for the region as ``text_box`` does; as a random model writes no boxes, it is the same for every reply."""

    name: str = "anywhere"
    version: int = 1
    responds: bool = True

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return TEXT_BOX.requests(question, settings)

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        replies = [item.replies[0] for item in inputs]
        return [
            NoRegion("grounding_failed", cause=reply)
            if isinstance(reply, Failure)
            else Region(Box(0.1, 0.1, 0.6, 0.6), exchange=reply)
            for reply in replies
        ]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUNDING.items, "anywhere", Anywhere())


def settings(**changes: Any) -> Settings:
    return Settings(grounding="anywhere", margin=0, **{"max_thinking_tokens": 40, "max_box_tokens": 5, **changes})


@functools.cache
def engine_of(template: str, opens: bool = False) -> TransformersEngine:
    return TransformersEngine(thinking_checkpoint(template, opens=opens), 16, 1 << 28)


@functools.cache
def traces_of(template: str, opens: bool = False) -> list[Trace]:
    return answer(QUESTIONS, engine_of(template, opens), settings())


TEMPLATES = [("opens", False), ("leaves it to the model", True)]


@pytest.mark.parametrize(("template", "opens"), TEMPLATES)
def test_both_passes(template: str, opens: bool) -> None:
    engine, traces = engine_of(template, opens), traces_of(template, opens)
    pairs = [trace for trace in traces if trace.macro and trace.micro]
    assert pairs
    assert any(trace.scores for trace in pairs)
    for trace in pairs:
        assert trace.grounding
        for found in (trace.macro, trace.micro, trace.grounding.response):
            assert isinstance(found, Completion)
            assert found.thinking
            assert found.thinking.tokens > 1
            assert len(found.token_ids) == len(found.logprobs) <= 9
            assert OPENING not in found.text + found.thinking.text
        assert Trace.from_json(trace.to_json()) == trace
    # The second pass again, by itself: what was thought of the region is no part of its prompt.
    pair = pairs[0]
    question = next(question for question in QUESTIONS if question.key == pair.key)
    (grounding,) = TEXT_BOX.requests(question, settings())
    (first,) = engine.generate([grounding])
    assert isinstance(first, Completion)
    assert pair.grounding
    assert replace(first, logprobs=()) == replace(pair.grounding.response, logprobs=(), gap=first.gap)  # type: ignore[type-var]
    told = Message("assistant", (first.text,), first.token_ids)
    prompt = engine._renderer.render((*grounding.conversation, told, Message("user", ("and this?",))))
    turn = engine.checkpoint.processor.tokenizer.decode(prompt.ids).split("<|im_start|>")[2]
    assert turn.startswith("assistant\n<think></think>\n" if opens else "assistant\n")
    assert (CLOSING in turn) == opens


def test_what_ran_out_is_counted_and_named() -> None:
    traces, summary = traces_of("opens"), Summary()
    failures = [trace.error for trace in traces if trace.error]
    causes = [trace.cause for trace in traces if trace.cause]
    assert {problem.kind for problem in failures + causes} <= {"thinking_budget", "thinking_unfinished"}
    assert all(trace.fallback in ("grounding_failed", "micro_failed") for trace in traces if trace.cause)
    short = answer(QUESTIONS[:2], engine_of("opens"), settings(max_thinking_tokens=1))
    for trace in short:
        assert trace.error == Failure("thinking_budget", "1 token of thinking and no answer; raise max_thinking_tokens")
        summary.add_trace(trace)
    summary.add_counters(engine_of("opens").counters)
    assert summary.failures == {"thinking_budget": 2}
    assert summary.out_of_thinking == 2
    assert summary.thinking_tokens >= 4  # two answers, two grounding responses


def test_texts_are_scored_without_thinking() -> None:
    engine = engine_of("opens")
    results = loglikelihood([(QUESTIONS[0], "yes"), (QUESTIONS[0], "no")], engine, settings(strategy="macro"))
    conversation = (Message("user", QUESTIONS[0].content),)
    scores = engine.score(
        [ScoreRequest(conversation, engine.continuation(conversation, text)) for text in ("yes", "no")]
    )
    assert [result.nll for result in results] == pytest.approx([score.nll for score in scores])  # type: ignore[union-attr]


def test_stored_answers_of_another_budget_are_reused_where_nobody_thinks(tmp_path: Path) -> None:
    def keys(checkpoint: Any) -> set[str]:
        engine = TransformersEngine(checkpoint, 1, 0)
        configs = [resolve({"max_thinking_tokens": tokens}) for tokens in (100, 200)]
        return {StoreKey.of(config.settings, engine).settings_key for config in configs}

    checkpoint = thinking_checkpoint("opens")
    assert len(keys(checkpoint)) == 2
    assert len(keys(replace(checkpoint, thinking=None))) == 1
    store = TraceStore(tmp_path, "key")
    first = answer(QUESTIONS[:4], engine_of("opens"), settings(), store=store)
    store.close()
    again = TraceStore(tmp_path, "key")
    second = answer(QUESTIONS[:4], engine_of("opens"), settings(), store=again)
    assert [(trace.text, trace.error) for trace in second] == [(trace.text, trace.error) for trace in first]
    assert again.reused == sum(trace.error is None and trace.cause is None for trace in first)
