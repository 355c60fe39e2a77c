"""One epoch of a mixture: every sample as often as its weight says, in an order that the seed decides."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.training.mixture import FILLER, epoch, shares

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(sizes=SIZES, seed=st.integers(0, 9), data=st.data())
@settings(max_examples=200)
def test_a_weight_is_the_share_of_a_source(sizes: list[int], seed: int, data: st.DataObject) -> None:
    weights = [data.draw(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.25])) for _ in sizes]
    drawn = shares(sizes, weights, seed)
    counts = Counter(drawn)
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        times = [counts[source, row] for row in range(size)]
        assert sum(times) == int(weight) * size + round(weight % 1 * size)
        assert all(int(weight) <= number <= int(weight) + (weight % 1 > 0) for number in times)
    assert drawn == shares(sizes, weights, seed)


def test_another_seed_draws_another_half() -> None:
    assert shares([100], [0.5], 1) != shares([100], [0.5], 2)


@given(lengths=st.lists(st.integers(1, 50), max_size=120), batch=st.integers(1, 9), grouped=st.booleans())
@settings(max_examples=200)
def test_an_epoch_has_every_sample_once(lengths: list[int], batch: int, grouped: bool) -> None:
    order = epoch(lengths, batch, 4, grouped=grouped)
    assert len(order) % batch == 0
    assert len(order) - len(lengths) < batch
    assert sorted(order) == [FILLER] * (len(order) - len(lengths)) + list(range(len(lengths)))
    assert FILLER not in order[: len(lengths)]
    assert order == epoch(lengths, batch, 4, grouped=grouped)


def test_grouping_saves_padding_and_shows_the_longest_first() -> None:
    lengths = [1 + 37 * number % 400 for number in range(4000)]

    def padding(order: list[int]) -> int:
        batches = [[lengths[place] for place in order[start : start + 8]] for start in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    grouped, shuffled = (epoch(lengths, 8, 1, grouped=grouped) for grouped in (True, False))
    assert padding(grouped) < padding(shuffled) / 10
    assert lengths[grouped[0]] == max(lengths)
    starts = [lengths[place] for place in grouped[::8]]
    assert starts != sorted(starts, reverse=True)
