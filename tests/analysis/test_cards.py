"""Cards: what a reader sees of a question, and that their outcomes are those of the statistics."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualfocus_eval.analysis.cards import Card, cards_of
from dualfocus_eval.analysis.choices import scores_of
from dualfocus_eval.analysis.outcomes import OUTCOME_WORDS, Outcome
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.report.sections.questions import question_section
from dualfocus_eval.report.sections.selection import four_way
from dualfocus_eval.tiny.effect import POPE, SCENES
from dualfocus_eval.traces.record import ImageInfo, Pathway
from tests.analysis.runs import Answered, answered, failing, run_of, scene

ANSWERS = ("red", "blue", "green")
PATHWAYS: tuple[Pathway, Pathway] = ("macro", "micro")


@st.composite
def made_up(draw: st.DrawFn) -> list[Answered]:
    """Questions with one answer or two, right or wrong or failed, whatever was picked."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        micro = draw(st.sampled_from([*ANSWERS, None]))
        pick = draw(st.sampled_from(PATHWAYS))
        one = answered(
            SCENES, scene(number, draw(st.sampled_from(ANSWERS))), draw(st.sampled_from(ANSWERS)), micro,
            doc_id=number, picks={"own_context": pick, "micro_context": pick, "released": pick},
            image=f"{number // 2:032x}",
        )  # fmt: skip
        found.append(failing(one) if draw(st.integers(0, 5)) == 0 else one)
    return found


def counts_of(run: Run) -> Counter[Outcome]:
    return Counter(card.outcome for card in cards_of(run))


@given(made_up())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_outcomes_are_what_the_statistics_say(answers: list[Answered]) -> None:
    run = run_of(answers)
    found, rows = counts_of(run), run.answers
    macro, selected, oracle = (scores_of(rows, choice) for choice in ("macro", "selected", "oracle"))
    assert found[Outcome.GAINED] == np.sum(selected > macro)
    assert found[Outcome.LOST] == np.sum(selected < macro)
    assert found[Outcome.LOST] + found[Outcome.MISSED] == np.sum(oracle > selected)
    assert found[Outcome.GAINED] - found[Outcome.LOST] == np.sum(selected - macro)
    both, macro_only, micro_only, neither = (int(part.sum()) for part in four_way(rows))
    assert found[Outcome.BOTH_RIGHT] + found[Outcome.RIGHT] == both
    assert found[Outcome.KEPT] + found[Outcome.LOST] == macro_only
    assert found[Outcome.GAINED] + found[Outcome.MISSED] == micro_only
    assert found[Outcome.BOTH_WRONG] + found[Outcome.WRONG] + found[Outcome.FAILED] == neither
    assert found[Outcome.FAILED] == sum(failures.kinds.total() for failures in run.failures.values())


@given(made_up())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_card_agrees_with_its_own_scores(answers: list[Answered]) -> None:
    for card in cards_of(run_of(answers)):
        if card.error:
            assert card.outcome is Outcome.FAILED
        elif card.macro and card.micro:
            better = card.micro.score - card.macro.score
            taken = {"macro": card.macro, "micro": card.micro}[str(card.selected)]
            assert taken.score == card.score
            expected = {
                (1.0, "micro"): Outcome.GAINED, (1.0, "macro"): Outcome.MISSED,
                (-1.0, "micro"): Outcome.LOST, (-1.0, "macro"): Outcome.KEPT,
            }  # fmt: skip
            same = Outcome.BOTH_RIGHT if card.score else Outcome.BOTH_WRONG
            assert card.outcome is expected.get((better, str(card.selected)), same)
        else:
            assert card.outcome is (Outcome.RIGHT if card.score else Outcome.WRONG)


def test_the_reports_questions_have_the_same_counts() -> None:
    run = run_of([
        answered(SCENES, scene(1, "red"), "blue", "red", doc_id=1),
        answered(SCENES, scene(2, "red"), "red", "blue", doc_id=2),
        answered(SCENES, scene(3, "red"), "blue", "red", doc_id=3, picks={"own_context": "macro"}),
        answered(SCENES, scene(4, "red"), "red", "blue", doc_id=4, picks={"own_context": "macro"}),
    ])  # fmt: skip
    outcomes = [card.outcome for card in cards_of(run)]
    assert outcomes == [Outcome.GAINED, Outcome.LOST, Outcome.MISSED, Outcome.KEPT]
    assert question_section(run).tables["questions"].notes[0] == "In all: gained: 1; lost: 1; missed: 1."


def test_a_card_shows_what_the_trace_says() -> None:
    run = run_of([answered(SCENES, scene(7, "red"), "blue", "red", doc_id=7, image="a" * 32, nlls=(0.5, 0.25))])
    (card,) = cards_of(run)
    assert (card.key, card.target, card.selected, card.rule) == (f"{SCENES}/7", "red", "micro", "own_context")
    assert card.image
    assert (card.image.digest, card.image.width, card.image.height) == ("a" * 32, 400, 200)
    assert card.box == Box(0.1, 0.1, 0.3, 0.5)
    assert card.crop == Crop(20, 10, 140, 130)
    assert card.truth == Box(0.1, 0.1, 0.3, 0.5)
    assert card.box_text == "box"
    assert card.macro
    assert card.micro
    assert (card.macro.text, card.micro.text, card.macro.score, card.micro.score) == ("blue", "red", 0, 1)
    assert (card.macro.nll, card.macro.cost, card.micro.cost) == pytest.approx((0.5, 0.5, 0.25))
    assert card.macro.perplexity == pytest.approx(math.exp(0.5))
    assert card.gap == pytest.approx(0.25)
    assert card.decision == "perplexity"
    assert not card.crop_outside
    assert json.loads(json.dumps(card.to_dict(), allow_nan=False))["micro"]["perplexity"] == pytest.approx(1.284, 0.01)


def test_what_is_not_known_is_none() -> None:
    one = answered(SCENES, scene(1, "red"), "blue", None, doc_id=1)
    alone, failed = cards_of(run_of([one, failing(answered(SCENES, scene(2, "red"), "x", None, doc_id=2))]))
    assert (alone.micro, alone.fallback, alone.box, alone.outcome) == (None, "unparsable", None, Outcome.WRONG)
    assert math.isnan(alone.gap)
    assert (failed.image, failed.macro, failed.error, failed.outcome) == (None, None, "bad_image", Outcome.FAILED)
    assert failed.to_dict()["gap"] is None


def test_a_crop_outside_its_image_is_known_as_such() -> None:
    one = answered(SCENES, scene(1, "red"), "blue", "red", doc_id=1)
    (card,) = cards_of(run_of([one]))
    moved = Card(**{**vars(card), "crop": Crop(300, 100, 500, 190)})
    assert moved.crop_outside


@pytest.mark.parametrize("size", [(0, 200), (400, 0), (-4, 200), (400, -2)])
def test_an_image_without_an_extent_is_none(size: tuple[int, int]) -> None:
    one = answered(SCENES, scene(1, "red"), "blue", "red", doc_id=1)
    (card,) = cards_of(run_of([replace(one, trace=replace(one.trace, images=(ImageInfo("a" * 32, *size),)))]))
    assert (card.image, card.truth) == (None, None)


def test_a_category_is_a_metric_of_some_questions_only() -> None:
    one = answered(SCENES, scene(1, "red"), "red", "red", doc_id=1)
    two = answered(SCENES, scene(2, "two", kind="count", level="global"), "two", "one", doc_id=2)
    assert [set(card.categories) for card in cards_of(run_of([one, two]))] == [
        {"detail", "mark_color"}, {"global", "count"},
    ]  # fmt: skip
    assert [card.categories for card in cards_of(run_of([one]))] == [()]
    doc = {"answer": "yes", "image_source": "i"}
    assert [card.categories for card in cards_of(run_of([answered(POPE[0], doc, "yes", "no")]))] == [()]


def test_every_outcome_has_words() -> None:
    assert set(OUTCOME_WORDS) == set(Outcome)
