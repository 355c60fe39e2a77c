"""Intervals and tests against scipy, against references written out by hand, and in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmms_eval.api.metrics import clustered_stderr
from scipy import stats

from dualfocus_eval.analysis import intervals
from dualfocus_eval.analysis.intervals import GROUPS, bootstrap, jackknife, mean, mean_difference, rate
from dualfocus_eval.analysis.paired_tests import holm, mcnemar
from measurements.coverage import Population, covered, difference_of, rate_of, rejected

answers = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), min_size=1, max_size=40)
pairs = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=30)


@settings(max_examples=40)
@given(st.integers(2, 300), st.data())
def test_without_clusters_the_interval_is_wilsons(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, n - 1))
    found = rate([1.0] * right + [0.0] * (n - right), range(n))
    quantile = stats.t.ppf(0.975, n - 1)
    # The variance over n - 1 makes the effective size n - 1.
    expected = _wilson_by_roots(right / n, n - 1, quantile)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert found.value == right / n


def _wilson_by_roots(mean: float, size: float, quantile: float) -> tuple[float, float]:
    """Where |p - mean| = quantile * sqrt(p (1 - p) / size): the definition of Wilson's interval."""
    square = quantile**2 / size
    low, high = sorted(np.roots([1 + square, -2 * mean - square, mean**2]).real)
    return max(0.0, float(low)), min(1.0, float(high))


def test_scipys_wilson_interval_is_nearly_that_of_many_single_images() -> None:
    found = rate([1.0] * 8_000 + [0.0] * 2_000, range(10_000))
    reference = stats.binomtest(8_000, 10_000).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-5)


@settings(max_examples=40)
@given(answers)
def test_an_interval_holds_its_value_and_has_a_width(rows: list[tuple[bool, str]]) -> None:
    found = rate([float(right) for right, _ in rows], [image for _, image in rows])
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.01


@settings(max_examples=40)
@given(pairs)
def test_a_difference_holds_its_value_and_swaps_its_sign(rows: list[tuple[bool, bool, str]]) -> None:
    before, after, images = (list(column) for column in zip(*rows, strict=True))
    found, swapped = mean_difference(before, after, images), mean_difference(after, before, images)
    assert found.low <= found.value <= found.high
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_the_standard_error_is_lmms_evals_for_many_images() -> None:
    rng = np.random.default_rng(3)
    before, after, images = Population(0.6, 400, 6, 0.4).draw_pair(rng)
    found = mean_difference(before, after, images)
    reference = stats.t.ppf(0.975, 399) * clustered_stderr(list(after - before), list(images))
    assert found.margin == pytest.approx(reference, rel=0.005)


def test_copies_of_a_question_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    scores = (rng.random(300) < 0.6).astype(float)
    once, copied = rate(scores, np.arange(300)), rate(np.repeat(scores, 6), np.repeat(np.arange(300), 6))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


def test_opposite_answers_within_images_make_no_interval_narrower_than_independence() -> None:
    found = rate([1.0, 0.0] * 50, np.repeat(np.arange(50), 2))
    assert (found.low, found.high) == pytest.approx(_wilson_by_roots(0.5, 50, stats.t.ppf(0.975, 49)))


def test_what_says_nothing_is_not_called_certain() -> None:
    assert math.isnan(rate([], []).value)
    assert math.isnan(mean_difference([], [], []).low)
    one = rate([1.0, 1.0], ["a", "a"])
    assert (one.value, one.low, one.high) == (1.0, 0.0, 1.0)
    right, wrong = rate([1.0] * 20, range(20)), rate([0.0] * 20, range(20))
    assert right.low == pytest.approx(20 / (20 + stats.t.ppf(0.975, 19) ** 2))
    assert wrong.high == pytest.approx(1 - right.low)
    # Twenty questions of ten images are no more than ten.
    assert rate([1.0] * 20, [number // 2 for number in range(20)]).low < right.low
    same = mean_difference([1.0] * 20, [1.0] * 20, range(20))
    assert (same.value, same.low, same.high) == pytest.approx((0.0, -wrong.high, wrong.high))


def test_a_cluster_for_every_value_is_demanded() -> None:
    with pytest.raises(ValueError, match="one cluster per value"):
        rate([1.0, 0.0], ["a"])


def test_the_bootstrap_of_a_mean_agrees_with_students_interval() -> None:
    before, after, images = Population(0.6, 300, 6, 0.3).draw_pair(np.random.default_rng(2))
    columns = np.column_stack([after - before, np.ones_like(before)])

    def mean(sums: intervals.Floats) -> intervals.Floats:
        return sums[..., 0] / sums[..., 1]

    found, reference = bootstrap(columns, images, mean), mean_difference(before, after, images)
    assert found.value == pytest.approx(reference.value)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.15 * reference.margin)
    assert bootstrap(columns, images, mean) == found
    assert bootstrap(columns, images, mean, seed=1) != found


def test_the_bootstrap_agrees_with_scipys() -> None:
    right, asked = np.random.default_rng(7).binomial([[3], [6]], 0.7, (2, 80)).astype(float)
    asked = asked + right + 1
    found = bootstrap(np.column_stack([right, asked]), np.arange(80), lambda sums: sums[..., 0] / sums[..., 1])
    reference = stats.bootstrap(
        (right, asked),
        lambda *drawn, axis: drawn[0].sum(axis) / drawn[1].sum(axis),
        paired=True, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.005)


def test_the_bootstrap_draws_whole_images() -> None:
    # Ten images, all questions of an image alike: as uncertain as ten questions, however often each is asked.
    scores = np.repeat([1.0, 0.0], 5)

    def width(copies: int) -> float:
        columns = np.column_stack([np.repeat(scores, copies), np.ones(10 * copies)])
        found = bootstrap(columns, np.repeat(np.arange(10), copies), lambda sums: sums[..., 0] / sums[..., 1])
        return found.high - found.low

    assert width(50) == width(1) > 0.4


def test_the_bootstrap_leaves_draws_without_a_value_out() -> None:
    found = bootstrap([[1, 1], [0, 0], [0, 0]], range(3), lambda sums: sums[..., 0] / sums[..., 1])
    none = bootstrap([[0, 0], [0, 0]], range(2), lambda sums: sums[..., 0] / sums[..., 1])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert math.isnan(none.low)
    assert math.isnan(bootstrap([[1, 1]], ["a"], lambda sums: sums[..., 0]).low)
    assert math.isnan(bootstrap(np.zeros((0, 2)), [], lambda sums: sums[..., 0]).value)


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_with_one_question_per_image_it_is_mcnemars_exact_test(better: int, worse: int, same: int) -> None:
    before = [0.0] * better + [1.0] * worse + [1.0] * same
    after = [1.0] * better + [0.0] * worse + [1.0] * same
    found = mcnemar(before, after, range(len(before)))
    assert (found.better, found.worse) == (better, worse)
    n = better + worse
    assert found.p_two_sided == pytest.approx(stats.binomtest(worse, n).pvalue if n else 1.0)
    reference = stats.binomtest(worse, n, alternative="greater").pvalue if n else 1.0
    assert found.p_worse == pytest.approx(reference)


@settings(max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_images_are_flipped_whole(sums: list[int]) -> None:
    rows = [(float(total < 0), float(total > 0), image) for image, total in enumerate(sums) for _ in range(abs(total))]
    before, after, images = zip(*rows, strict=True) if rows else ((), (), ())
    found = mcnemar(before, after, images)
    totals = [
        sum(size if choice >> place & 1 else -size for place, size in enumerate(map(abs, sums)))
        for choice in range(2 ** len(sums))
    ]
    assert found.p_worse == pytest.approx(np.mean([total <= sum(sums) for total in totals]))


def test_the_normal_form_continues_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, images = Population(0.5, 900, 6, 0.3).draw_pair(np.random.default_rng(5))
    exact = mcnemar(before, after, images)
    monkeypatch.setattr("dualfocus_eval.analysis.paired_tests.EXACT_UP_TO", 10)
    normal = mcnemar(before, after, images)
    assert normal.p_two_sided == pytest.approx(exact.p_two_sided, abs=0.03)
    assert normal.p_worse == pytest.approx(exact.p_worse, abs=0.03)


def test_partly_right_answers_count_by_their_sign() -> None:
    found = mcnemar([0.3, 1.0, 0.0], [0.6, 0.9, 0.0], range(3))
    assert (found.better, found.worse, found.p_two_sided) == (1, 1, 1.0)


def test_holm() -> None:
    # Worked by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, and never less than the one before.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([]) == []
    assert holm([0.7]) == [0.7]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_definition_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected_ones = set()
        for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected_ones.add(index)
        assert {index for index, value in enumerate(adjusted) if value <= level} == rejected_ones


@pytest.mark.parametrize("probability", [0.2, 0.9])
def test_500_images_are_enough_for_honest_coverage(probability: float) -> None:
    population = Population(probability, 500, 6, 0.3)
    assert abs(covered(rate_of, population) - 0.95) <= 0.015
    assert abs(covered(difference_of, population) - 0.95) <= 0.015


def test_an_equally_good_run_is_seldom_called_worse() -> None:
    assert rejected(Population(0.5, 60, 6, 0.3), runs=500) <= 0.08


def test_the_simulation_notices_an_interval_that_ignores_images() -> None:
    def naive(population: Population, rng: np.random.Generator) -> tuple[intervals.Estimate, float]:
        scores, _ = population.draw(rng)
        return rate(scores, np.arange(len(scores))), population.rate

    assert covered(naive, Population(0.5, 500, 6, 0.3), runs=300) < 0.93


def test_a_mean_of_any_range_has_students_interval() -> None:
    scores = [1.5, 2.2, 1.7, 1.9, -40.0, 2.0]
    found = mean(scores, range(6))
    low, high = stats.t.interval(0.95, 5, np.mean(scores), stats.sem(scores))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(scores), low, high))
    for clusters in ("aaaaaa", "abcdef"):
        found = mean([3.0] * 6, list(clusters))
        assert (found.value, math.isnan(found.low), math.isnan(found.high)) == (3.0, True, True)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=GROUPS)
    found = jackknife(range(GROUPS), lambda kept: float(values[kept].mean()))
    low, high = stats.t.interval(0.95, GROUPS - 1, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_a_rate_of_scores_that_are_no_shares_is_refused() -> None:
    assert rate([0.0, 1 + 1e-12], list("ab")).value == pytest.approx(0.5)
    for wrong in (1.5, -0.1):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            rate([0.0, wrong], list("ab"))
