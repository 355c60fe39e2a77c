"""The controls of grounding and of the second pass change one thing each, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import Exchange, GroundingInput, NoRegion, Region
from dualfocus_eval.method.grounding.text_box import grounding_conversation
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.settings import Settings, stored_settings
from tests.method.test_pipeline import ask, picture, rule, stages
from tests.scripted_engine import ScriptedEngine, completion

SETTINGS = Settings()
SHIFTED = Settings(grounding="shifted", jitter=30)
MOVED = ("center", "random", "whole")
fractions = st.integers(0, 100).map(lambda value: value / 100)


def region(
    method: str, text: str, key: str = "q0", settings: Settings = SETTINGS, size: tuple[int, int] = (200, 100)
) -> Region | NoRegion:
    """What the method makes of a model's ``text``."""
    question = replace(ask(images=(picture(size=size),)), key=key)
    exchange = Exchange(grounding_conversation(question, "released"), completion(text))
    (found,) = GROUNDING[method].regions([GroundingInput(question, (exchange,))], ScriptedEngine(rule()), settings)
    return found


@given(st.tuples(fractions, fractions, fractions, fractions), st.text(min_size=1))
def test_a_moved_box_keeps_its_size(corners: tuple[float, float, float, float], key: str) -> None:
    text = "[{:.2f}, {:.2f}, {:.2f}, {:.2f}]".format(*corners)
    own = region("text_box", text)
    for method, settings in (("center", SETTINGS), ("random", SETTINGS), ("shifted", SHIFTED)):
        moved = region(method, text, key, settings)
        if isinstance(own, NoRegion):
            assert moved == replace(own, exchange=moved.exchange)
            continue
        assert isinstance(moved, Region)
        assert moved.box.x2 - moved.box.x1 == pytest.approx(own.box.x2 - own.box.x1)
        assert moved.box.y2 - moved.box.y1 == pytest.approx(own.box.y2 - own.box.y1)


def test_the_regions_of_the_controls() -> None:
    text = "[0.10, 0.20, 0.50, 0.60]"
    center, whole = region("center", text), region("whole", text)
    assert isinstance(center, Region)
    assert (center.box.x1, center.box.y2) == pytest.approx((0.3, 0.7))
    assert isinstance(whole, Region)
    assert whole.box == Box(0, 0, 1, 1)
    assert region("random", text) == region("random", text)
    assert region("random", text) != region("random", text, key="q1")


def test_shifts_go_in_all_four_directions_by_the_given_pixels() -> None:
    settings = Settings(grounding="shifted", jitter=10)
    boxes = [
        found.box
        for number in range(40)
        if isinstance(found := region("shifted", "[0.4, 0.4, 0.6, 0.6]", f"q{number}", settings, (1000, 500)), Region)
    ]
    offsets = {(round((box.x1 - 0.4) * 1000), round((box.y1 - 0.4) * 500)) for box in boxes}
    assert (len(boxes), offsets) == (40, {(-10, -10), (-10, 10), (10, -10), (10, 10)})


def test_a_shift_stops_at_the_border() -> None:
    far = Settings(grounding="shifted", jitter=1_000)
    for number in range(20):
        found = region("shifted", "[0.4, 0.4, 0.6, 0.6]", f"q{number}", far)
        assert isinstance(found, Region)
        assert {round(found.box.x1, 9), round(found.box.y1, 9)} <= {0.0, 0.8}


def test_jitter_and_shifted_need_each_other() -> None:
    with pytest.raises(ValueError, match="needs jitter"):
        Settings(grounding="shifted")
    with pytest.raises(ValueError, match="jitter=5 moves the boxes of grounding='shifted', not of 'text_box'"):
        Settings(jitter=5)
    assert stored_settings({"jitter": 5.0, "grounding": "text_box"})["grounding"] == "shifted"
    assert stored_settings({"jitter": 0.0})["grounding"] == "text_box"


def test_nothing_but_the_region_changes() -> None:
    """The conversation of the second pass is the same up to the crop."""
    seen = {}
    for method in ("text_box", *MOVED):
        engine = ScriptedEngine(rule())
        (trace,) = answer([ask()], engine, Settings(grounding=method, strategy="micro"))
        assert stages(engine) == [["response"], ["micro"]]
        assert trace.grounding is not None
        assert trace.grounding.method == method
        seen[method] = engine.generated[1][0].conversation
    own = seen.pop("text_box")
    for conversation in seen.values():
        assert conversation[:-1] == own[:-1]
        assert conversation[-1].content[1:] == own[-1].content[1:]
        assert conversation[-1].content != own[-1].content


def test_the_data_set_s_box_is_what_the_model_is_said_to_have_named() -> None:
    question, engine = ask(truth=Box(0.25, 0.5, 0.5, 1.0)), ScriptedEngine(rule())
    (trace,) = answer([question], engine, Settings(grounding="truth", strategy="micro", margin=0))
    assert stages(engine) == [["micro"]]
    assert trace.grounding is not None
    assert trace.grounding.box == question.truth
    _, said, _ = engine.generated[0][0].conversation
    (text,) = said.content
    assert parse_box(str(text), image_size=(200, 100)).box == question.truth
    assert said.token_ids == engine.continuation((), str(text))


def test_without_a_known_box_the_macro_answer_stays() -> None:
    (trace,) = answer([ask()], ScriptedEngine(rule()), Settings(grounding="truth"))
    assert (trace.selected, trace.fallback) == ("macro", "no_truth")


def test_a_rule_that_needs_the_model_s_own_words_does_not_take_the_data_set_s() -> None:
    with pytest.raises(ValueError, match="selection='released' needs the model's own words"):
        Settings(grounding="truth", selection="released")


def test_what_each_second_pass_shows() -> None:
    question = ask()
    (image,) = question.images
    shown: dict[str, list[list[str | Picture]]] = {}
    for name in ("append_crop", "no_crop", "blank_crop", "joint", "crop_only"):
        engine = ScriptedEngine(lambda conversation: "[0.10, 0.20, 0.50, 0.60]")
        answer([question], engine, Settings(second_pass=name, strategy="micro"))
        shown[name] = [list(message.content) for message in engine.generated[1][0].conversation]
    first, said, (crop, words) = shown["append_crop"]
    assert shown["no_crop"] == [first, said, [words]]
    (*before, (blank, same_words)) = shown["blank_crop"]
    assert before == [first, said]
    assert same_words == words
    assert isinstance(crop, Picture)
    assert blank == picture_of(crop.pixels.size)
    assert shown["joint"] == [[image, crop, question.prompt]]
    assert shown["crop_only"] == [[crop, question.prompt]]


def picture_of(size: tuple[int, int]) -> Picture:
    return picture("#7f7f7f", size)
