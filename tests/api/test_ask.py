"""Questions asked from Python: the answers of an evaluation, whatever the image comes as."""

from __future__ import annotations

import argparse
import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from lmms_eval.api.instance import Instance
from PIL import Image

import dualfocus_eval as df
from dualfocus_eval.api.answer import _FALLBACK_WORDS
from dualfocus_eval.api.asking import QuestionText, ask_about
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.harness.model import DualFocusChat
from dualfocus_eval.method.boxes import BoxOutcome
from dualfocus_eval.method.prompts import LETTER_HINT, WORD_HINT
from dualfocus_eval.traces.record import Fallback, Trace
from dualfocus_eval.traces.store import join_traces

Scenes = list[dict[str, Any]]
OPTIONS = ("K", "X", "U")


def same_answers(answer: df.Answer, trace: Trace) -> None:
    """Equal texts, boxes and choices, log-probabilities to 1e-4."""
    assert answer.question.digest == trace.question_digest
    found = answer.trace
    assert (found.selected, found.decision, found.fallback) == (trace.selected, trace.decision, trace.fallback)
    assert answer.box == (trace.grounding.box if trace.grounding else None)
    assert answer.region == (trace.grounding.crop if trace.grounding else None)
    for one, other in ((found.macro, trace.macro), (found.micro, trace.micro)):
        assert (one is None) == (other is None)
        if one and other:
            assert one.token_ids == other.token_ids
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


class Task:
    """As much of a task as travels with an instance."""

    def __init__(self) -> None:
        self.args = argparse.Namespace(tasks="t")

    def doc_to_messages(self, doc: Any) -> list[dict[str, Any]]:
        content = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["prompt"]}]
        return [{"role": "user", "content": content}]


def evaluated(scenes: Scenes, prompts: list[str], traces: Path) -> list[Trace]:
    """The same questions answered by the model class that lmms-eval runs."""
    rows = {"prompt": prompts, "image": [scene["image"] for scene in scenes]}
    features = Features({"prompt": Value("string"), "image": ImageFeature()})
    model, task = DualFocusChat(batch_size=4, trace_dir=str(traces)), Task()
    model.task_dict = {"t": {"test": Dataset.from_dict(rows, features=features)}}
    generation = {"max_new_tokens": 16, "until": None}
    instances = [
        Instance(
            "generate_until", ("", task.doc_to_messages, generation, number, "t", "test"), 0,
            {"task": "t", "doc_id": number, "repeats": 1},
        )
        for number in range(len(scenes))
    ]  # fmt: skip
    model.generate_until(instances)
    key = model.session.settings_key
    model.clean()
    found = {trace.key: trace for trace in join_traces(traces, key)}
    return [found[f"t/{number}"] for number in range(len(scenes))]


def test_an_answer_is_that_of_an_evaluation(model: df.Model, scenes: Scenes, tmp_path: Path) -> None:
    asked: list[Any] = [(scene["image"]["bytes"], scene["question"]) for scene in scenes[:8]]
    asked.append((scenes[0]["image"]["bytes"], scenes[0]["question"], OPTIONS))
    lettered = "\n".join([scenes[0]["question"], "A. K", "B. X", "C. U", LETTER_HINT])
    prompts = [*(f"{scene['question']}\n{WORD_HINT}" for scene in scenes[:8]), lettered]
    traces = evaluated([*scenes[:8], scenes[0]], prompts, tmp_path)
    for answer, trace in zip(model.ask_batch(asked), traces, strict=True):
        same_answers(answer, trace)


def test_a_batch_gives_the_answers_of_single_questions(model: df.Model, scenes: Scenes) -> None:
    asked = [(scene["image"]["bytes"], scene["question"]) for scene in (scenes[0], scenes[6], scenes[1], scenes[7])]
    for answer, (image, question) in zip(model.ask_batch(asked), asked, strict=True):
        assert answer.question.stem == question
        same_answers(model.ask(image, question), answer.trace)


def test_questions_about_one_image_encode_it_once(scenes: Scenes) -> None:
    model = df.load(batch_size=2)
    image = scenes[0]["image"]["bytes"]
    answers = model.ask_batch([(image, scenes[0]["question"]), (image, scenes[1]["question"])])
    assert all(answer.crop for answer in answers)
    crops = {answer.region for answer in answers}
    assert model.counters.images_encoded == 1 + len(crops)
    before = copy.deepcopy(model.counters)
    model.ask(image, scenes[0]["question"])
    assert model.counters.images_encoded == before.images_encoded
    assert model.counters.tokens_reused > before.tokens_reused


def test_what_an_answer_tells(example: df.Answer, scenes: Scenes) -> None:
    answer = example
    assert answer.macro
    assert answer.micro
    assert answer.box
    assert answer.region
    assert answer.image
    assert answer.crop
    assert (answer.text, answer.selected) == (answer.micro.text, "micro")
    assert answer.text.strip() == scenes[0]["answer"] != answer.macro.text.strip()
    assert answer.micro.perplexity == pytest.approx(math.exp(answer.micro.nll))
    assert answer.compared
    assert answer.compared[1] < answer.compared[0]
    left, top, right, bottom = answer.box_pixels or ()
    assert (left, bottom) == (round(answer.box.x1 * 384), round(answer.box.y2 * 512))
    assert answer.crop.size == answer.region.size
    assert answer.region.left <= left < right <= answer.region.right
    assert answer.region.top <= top < bottom <= answer.region.bottom
    assert "lower perplexity" in answer.why
    assert answer.fallback is answer.failure is answer.option is None
    assert str(answer) == answer.text
    assert repr(answer).startswith("Answer('K', selected='micro'")


def test_every_reason_to_keep_the_macro_answer_has_words() -> None:
    unusable = set(BoxOutcome) - {BoxOutcome.OK, BoxOutcome.CLIPPED}
    of_methods = {"no_truth", "no_phrase", "nothing_detected", "grid_finer_than_image"}
    assert {*Fallback, *unusable, *of_methods} == _FALLBACK_WORDS.keys()


def test_its_dictionary_is_json(example: df.Answer) -> None:
    found = json.loads(json.dumps(example.to_dict(), allow_nan=False))
    assert found["answer"] == found["micro"]["text"] == "K"
    assert found["macro"].keys() == {"text", "nll", "perplexity", "compared_perplexity"}
    assert found["box"] == [0.01, 0.54, 0.30, 0.79]
    assert found["region"] == [0, 264, 136, 417]
    assert found["failure"] is None


@pytest.mark.parametrize("logprob", [math.nan, -math.inf, -2000.0])
def test_numbers_that_are_not_finite_are_null_in_its_dictionary(example: df.Answer, logprob: float) -> None:
    assert example.micro
    macro = Completion("red", (1,), (logprob,), "length")
    trace = replace(example.trace, macro=macro, decision="nll")
    found = replace(example, trace=trace, rule="own_context")
    shown = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (shown["macro"]["perplexity"], shown["macro"]["compared_perplexity"]) == (None, None)
    assert shown["micro"]["compared_perplexity"] == example.micro.perplexity
    assert found._repr_png_()


def test_the_figure_shows_both_answers(example: df.Answer) -> None:
    figure = example.figure()
    assert len(figure.axes) == 2
    said = " | ".join(text.get_text() for part in (figure, *figure.axes) for text in part.texts)
    for word in ("What is written on the box?", "macro answer", "micro answer (selected)", "PPL ", example.why[:40]):
        assert word in said
    png = example._repr_png_()
    assert png
    assert png.startswith(b"\x89PNG")


def test_one_pathway_alone_and_one_that_needs_no_second_pass(scenes: Scenes) -> None:
    image, question = scenes[0]["image"]["bytes"], scenes[0]["question"]
    macro = df.load(strategy="macro").ask(image, question)
    assert (macro.micro, macro.box, macro.crop, macro.compared) == (None, None, None, None)
    assert macro.why == "only the macro pathway was asked for"
    assert len(macro.figure().axes) == 1
    sure = df.load(adaptive_nll=100).ask(image, question)
    assert sure.box
    assert sure.micro is None
    assert "confident enough" in sure.why


def test_the_system_prompt_is_that_of_the_arguments(scenes: Scenes) -> None:
    answer = df.load(system_prompt="You are brief.").ask(scenes[0]["image"]["bytes"], scenes[0]["question"])
    assert answer.question.system == "You are brief."
    assert answer.trace.question_digest == answer.question.digest


def test_a_question_of_a_task_keeps_its_own_system_turn(photo: Path, model: df.Model) -> None:
    asked = ask_about(photo, QuestionText("What is it?"))
    of_a_task = replace(asked, question=replace(asked.question, system="The task says so."))
    assert [answer.question.system for answer in model.answer([asked, of_a_task])] == [None, "The task says so."]


def test_an_image_may_come_as_anything_that_shows_it(photo: Path, model: df.Model) -> None:
    question = "What color is the label on the ball?"
    pixels = Image.open(photo).convert("RGB")
    answer = model.ask(photo, question)
    for image in (str(photo), photo.read_bytes(), pixels, np.asarray(pixels), pixels.convert("RGBA")):
        same_answers(model.ask(image, question), answer.trace)
    grey = ask_about(np.asarray(pixels.convert("L")), QuestionText.of("What?"))
    assert grey.question.images[0].pixels.mode == "RGB"


def test_answers_are_stored_where_a_trace_folder_is_named(photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    with df.load(trace_dir=str(folder)) as model:
        first = model.ask(photo, "What is written on the box?")
    (line,) = (folder / "traces.rank0000.jsonl").read_text().splitlines()
    assert Trace.from_json(line).key == first.trace.key
    photo.rename(tmp_path / "moved.png")
    with df.load(trace_dir=str(folder)) as model:
        again = model.ask(tmp_path / "moved.png", "What is written on the box?")
        assert model.counters.images_encoded == 0
    same_answers(again, first.trace)
