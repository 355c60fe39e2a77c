"""Adaptive thresholds against a plain loop, and the laws of fronts and tolerances."""

import math

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.report.sections.thresholds import Curve, adaptive_curve, cheapest_within, kept_points

nlls = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.5, math.nan])
questions = st.lists(
    st.tuples(nlls, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.3, 1.0]), st.booleans()), min_size=1
)


def table(found: list[tuple[float, float, float, bool]]) -> pd.DataFrame:
    rows = [
        (nll, macro, micro if two else macro, "answer" if two else None, 3.0 if two else math.nan, 2.0, 9.0)
        for nll, macro, micro, two in found
    ]
    names = ["macro_nll", "score_macro", "score_selected", "micro_text", "micro_tokens", "macro_tokens", "box_tokens"]
    return pd.DataFrame(rows, columns=names)


@settings(max_examples=200)
@given(questions)
def test_every_threshold_does_what_a_run_with_it_would(found: list[tuple[float, float, float, bool]]) -> None:
    curve = adaptive_curve(table(found))
    known = [question for question in found if not math.isnan(question[0])]
    for threshold, skipped, score, saved in zip(
        curve.threshold, curve.skipped, curve.score, curve.tokens_saved, strict=True
    ):
        passes = [two for *_, two in known]
        skip = [nll < threshold for nll, *_ in known]
        answers = [macro if s or not two else micro for (_, macro, micro, two), s in zip(known, skip, strict=True)]
        both = sum(a and b for a, b in zip(skip, passes, strict=True))
        if known:
            assert math.isclose(score, sum(answers) / len(known), abs_tol=1e-9)
        assert math.isclose(skipped, both / sum(passes) if sum(passes) else 0.0)
        assert math.isclose(saved, 3 * both / (11 * len(known) + 3 * sum(passes)) if known else 0.0)


@settings(max_examples=200)
@given(questions)
def test_fronts_and_tolerances(found: list[tuple[float, float, float, bool]]) -> None:
    curve = adaptive_curve(table(found))
    if math.isnan(curve.score[0]):
        return
    front = curve.front
    for place in np.flatnonzero(front):
        better = (curve.skipped >= curve.skipped[place]) & (curve.score > curve.score[place] + 1e-9)
        assert not better.any()
    assert front[-1]
    for tolerance in (0.0, 0.5, 40.0):
        place = cheapest_within(curve, tolerance)
        allowed = curve.score >= curve.score[0] - tolerance / 100 - 1e-9
        assert allowed[place]
        assert curve.skipped[place] >= curve.skipped[allowed].max() - 1e-9


def test_the_front_of_a_known_curve() -> None:
    curve = Curve(np.arange(5.0), np.array([0, 0.2, 0.5, 0.7, 1]), np.array([0.8, 0.9, 0.6, 0.7, 0.5]), np.zeros(5))
    assert curve.front.tolist() == [False, True, False, True, True]
    assert cheapest_within(curve, 0.1) == 1
    assert cheapest_within(curve, 10) == 3


def test_the_data_keep_the_front_and_the_named_thresholds() -> None:
    draw = np.random.default_rng(0)
    nll = draw.uniform(0, 2, 2_000)
    right = draw.random(2_000) > nll / 2  # the surer, the better: the front is long
    curve = adaptive_curve(
        table([(a, float(b), float(draw.random() > 0.2), True) for a, b in zip(nll, right, strict=True)])
    )
    kept, front = kept_points(curve), np.flatnonzero(curve.front)
    assert len(front) > 100
    assert set(front) | set(curve.named.values()) <= set(kept)
    assert len(kept) < len(front) + 60


@settings(max_examples=50)
@given(questions)
def test_a_published_threshold_does_what_the_curve_says(found: list[tuple[float, float, float, bool]]) -> None:
    curve = adaptive_curve(table(found))
    if math.isnan(curve.score[0]):
        return
    place = curve.named["table 9: 0.7"]
    passes = [nll for nll, _, _, two in found if two and not math.isnan(nll)]
    assert math.isclose(curve.skipped[place], np.mean([nll < 0.7 for nll in passes]) if passes else 0.0)
