"""Grounding methods and second passes of another package: registered, they work without a change here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Conversation, Engine, Failure, GenerateRequest, Message, Picture, ScoreRequest
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingMethod, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.pipeline import Likelihood, answer, loglikelihood
from dualfocus_eval.method.prompts import micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Decision, Grounding, Trace
from tests.method.test_pipeline import ask, prefer, rule, stages
from tests.scripted_engine import ScriptedEngine

HALF = Box(0.25, 0.25, 0.75, 0.75)


@dataclass(frozen=True)
class Method:
    """A grounding method that asks the model for nothing."""

    name: str = "centre"
    version: int = 1
    responds: bool = False

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        return [self.region(item.question) for item in inputs]

    def region(self, question: Question) -> Region | NoRegion:
        return Region(HALF)


class Nothing(Method):
    def region(self, question: Question) -> Region | NoRegion:
        return NoRegion("no_detection") if question.key == "q1" else Region(HALF, "detected")


class Broken(Method):
    def region(self, question: Question) -> Region | NoRegion:
        return Region(Box(0.5, 0.5, 1.5, 0.9)) if question.key == "q1" else Region(HALF)


class BrokenRequests(Method):
    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        if question.key == "q1":
            raise ValueError("no prompt")
        return ()


class OneShort(Method):
    """Loses a region of a batch, so that nobody can tell whose; alone it loses that of one question."""

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        return [Region(HALF) for item in inputs if item.question.key != "q1"]


class NoObject(Method):
    def region(self, question: Question) -> Region | NoRegion:
        return None if question.key == "q1" else Region(HALF)  # type: ignore[return-value]


class NoReason(Method):
    def region(self, question: Question) -> Region | NoRegion:
        return NoRegion(None) if question.key == "q1" else Region(HALF)  # type: ignore[arg-type]


class NoRequest(Method):
    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ("Where is it?",) if question.key == "q1" else ()  # type: ignore[return-value]


class Single(Method):
    """Its boxes are of NumPy's single precision."""

    def region(self, question: Question) -> Region | NoRegion:
        return Region(Box(*np.array([0.25, 0.25, 0.75, 0.75], dtype=np.float32)))


class Tiles(Method):
    """Takes the half under which the answer "yes" is likelier, by scores that it asks the engine for."""

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        requests = [
            ScoreRequest((Message("user", (_half(item.question.images[0], side), "Is it here?")),), (1,))
            for item in inputs
            for side in (0, 1)
        ]
        scores = engine.score(requests)
        assert not any(isinstance(score, Failure) for score in scores)
        return [Region(Box(0, 0, 0.5, 1)) for _ in inputs]


def _half(picture: Picture, side: int) -> Picture:
    width, height = picture.pixels.size
    return Picture(picture.pixels.crop((side * width // 2, 0, (side + 1) * width // 2, height)))


def use(monkeypatch: pytest.MonkeyPatch, method: GroundingMethod) -> Settings:
    monkeypatch.setitem(GROUNDING.items, method.name, method)
    return Settings(grounding=method.name, margin=0)


def test_a_region_without_words_gives_one_turn_with_image_and_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = use(monkeypatch, Method())
    engine = ScriptedEngine(rule(), nll=prefer("green"))
    question = ask(0, system="Be polite.")
    (trace,) = answer([question], engine, settings)
    assert stages(engine) == [["macro"], ["micro"]]
    (image,) = question.images
    crop = Picture(image.pixels.crop((50, 0, 150, 100)))

    def shown(prompt: str) -> Conversation:
        return (Message("system", ("Be polite.",)), Message("user", (image, crop, prompt)))

    assert engine.generated[1][0].conversation == shown(micro_prompt(question, "released"))
    assert {request.conversation for request in engine.scored[0]} == {shown(scoring_prompt(question, "released"))}
    assert trace.grounding == Grounding(None, "ok", HALF, Crop(50, 0, 150, 100), "centre")
    assert (trace.text, trace.decision, trace.second_pass) == ("green", Decision.NLL, "append_crop")
    assert trace.picks == {"own_context": "micro", "micro_context": "micro"}
    assert Trace.from_json(trace.to_json()) == trace


def test_a_method_names_its_own_reasons_and_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = answer([ask(0), ask(1)], ScriptedEngine(rule()), use(monkeypatch, Nothing()))
    assert first.grounding is not None
    assert first.grounding.outcome == "detected"
    assert (second.text, second.fallback, second.cause) == ("blue", "no_detection", None)
    assert second.grounding == Grounding(None, "no_detection", method="centre")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Broken(), "is not a region"),
        (BrokenRequests(), "no prompt"),
        (OneShort(), "0 results of 1 requests"),
        (NoObject(), "None is not a Region or a NoRegion"),
        (NoReason(), "None is not a name"),
        (NoRequest(), "'Where is it?' is not a GenerateRequest"),
    ],
)
def test_what_a_method_raises_or_gets_wrong_costs_only_the_question_at_fault(
    method: GroundingMethod, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = answer([ask(0), ask(1), ask(2)], ScriptedEngine(rule()), use(monkeypatch, method))
    assert [trace.fallback for trace in traces] == [None, "grounding_failed", None]
    assert traces[1].cause is not None
    assert traces[1].cause.kind == "grounding_error"
    assert words in traces[1].cause.message
    assert traces[1].grounding is None


def test_numbers_of_other_libraries_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    (trace,) = answer([ask()], ScriptedEngine(rule()), use(monkeypatch, Single()))
    assert Trace.from_json(trace.to_json()) == trace
    assert trace.grounding is not None
    assert trace.grounding.box == HALF


def test_a_method_may_have_the_engine_score(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(rule())
    (trace,) = answer([ask()], engine, use(monkeypatch, Tiles()))
    assert [len(requests) for requests in engine.scored] == [2, 2]
    assert trace.grounding is not None
    assert trace.grounding.crop == Crop(0, 0, 100, 100)


def test_likelihoods_in_the_micro_pathway_need_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(use(monkeypatch, Method()), strategy="micro")
    engine = ScriptedEngine(rule(), nll=prefer("red"))
    assert loglikelihood([(ask(), "red")], engine, settings) == [Likelihood(pytest.approx(0.1), True)]
    assert engine.generated == []


@dataclass(frozen=True)
class CropOnly:
    """Shows the crop alone, and cannot lay out one question."""

    name: str = "crop_only"
    version: int = 1

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        if question.key == "q1":
            raise ValueError("no room")
        return (Message("user", (zoom.picture, f"Please combine {question.prompt}")),)

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return self.conversation(question, zoom, prompt_set)


def test_another_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECOND_PASSES.items, "crop_only", CropOnly())
    engine = ScriptedEngine(rule())
    first, second = answer([ask(0), ask(1)], engine, Settings(second_pass="crop_only"))
    assert stages(engine) == [["macro", "macro", "response", "response"], ["micro"]]
    assert len(engine.generated[1][0].conversation[0].content) == 2
    assert len(engine.scored[0]) == 2
    assert (first.second_pass, first.micro and first.micro.text) == ("crop_only", "green")
    assert (second.fallback, second.second_pass) == ("micro_failed", None)
    assert second.cause == Failure("second_pass_error", "ValueError: no room")


class Forgetful(CropOnly):
    """Returns nothing for one question."""

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        if question.key == "q0":
            return None  # type: ignore[return-value]
        return super().conversation(question, zoom, prompt_set)


def test_a_second_pass_that_returns_nothing_costs_that_question_and_mixes_up_no_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SECOND_PASSES.items, "crop_only", Forgetful())
    first, second, third = answer([ask(0), ask(1), ask(2)], ScriptedEngine(rule()), Settings(second_pass="crop_only"))
    assert [trace.fallback for trace in (first, second, third)] == ["micro_failed", "micro_failed", None]
    assert first.cause is not None
    assert first.cause.kind == "second_pass_error"
    assert (third.key, third.micro and third.micro.text) == ("q2", "green")
