"""Intervals against independent computations."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.report.intervals import Z95, aggregate_of, mean_of

rows = st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcdef")), min_size=2, max_size=40)


@given(rows)
def test_the_mean_has_the_clustered_standard_error(pairs: list[tuple[float, str]]) -> None:
    values, clusters = np.array([value for value, _ in pairs]), [cluster for _, cluster in pairs]
    estimate = mean_of(list(values), clusters)
    assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
    if len(set(clusters)) < 2:
        assert math.isnan(estimate.margin)
        return
    n, deviations = len(values), values - values.mean()
    sums = np.array([deviations[[c == cluster for c in clusters]].sum() for cluster in set(clusters)])
    # Equation 4 of "Adding Error Bars to Evals", with the variance over n - 1.
    variance = deviations @ deviations / (n - 1) / n + (sums @ sums - deviations @ deviations) / n**2
    assert estimate.margin == pytest.approx(Z95 * math.sqrt(max(variance, 0)), abs=1e-7)


def test_copies_of_a_question_do_not_narrow_the_interval() -> None:
    draw = random.Random(1)
    values = [float(draw.random() < 0.6) for _ in range(300)]
    once = mean_of(values, [str(number) for number in range(300)])
    copied = mean_of(
        [value for value in values for _ in range(6)], [str(number) for number in range(300) for _ in range(6)]
    )
    assert copied.value == pytest.approx(once.value)
    assert copied.margin == pytest.approx(once.margin, rel=0.01)


def test_the_bootstrap_of_a_mean_agrees_with_the_formula() -> None:
    draw = random.Random(2)
    clusters = [str(number) for number in range(200) for _ in range(3)]
    rates = {cluster: draw.random() for cluster in set(clusters)}
    values = [float(draw.random() < rates[cluster]) for cluster in clusters]
    drawn = aggregate_of(values, clusters, lambda chosen: sum(chosen) / len(chosen))
    assert drawn.value == pytest.approx(mean_of(values, clusters).value)
    assert drawn.margin == pytest.approx(mean_of(values, clusters).margin, rel=0.1)
    assert aggregate_of(values, clusters, lambda chosen: sum(chosen) / len(chosen)) == drawn


def test_nothing_and_a_single_cluster_have_no_interval() -> None:
    assert math.isnan(mean_of([], []).value)
    assert math.isnan(aggregate_of([], [], len).value)
    single = aggregate_of([1.0, 0.0], ["a", "a"], lambda values: sum(values) / len(values))
    assert (single.value, math.isnan(single.margin)) == (0.5, True)
    assert math.isnan(mean_of([1.0, 0.0], ["a", "a"]).margin)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_interval_is_symmetric(seed: int) -> None:
    draw = random.Random(seed)
    estimate = mean_of([draw.random() for _ in range(9)], list("abcabcabc"))
    assert estimate.high - estimate.value == pytest.approx(estimate.value - estimate.low)
