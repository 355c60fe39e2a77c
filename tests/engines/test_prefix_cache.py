"""The prefix cache alone: budget, order of eviction, pins, shared beginnings."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.engines.image_inputs import ByteLRU
from dualfocus_eval.engines.prefix_cache import PrefixCache, Segment

TOKEN = 2 * 4 * 4  # bytes of one token's states in `segment`: keys and values, one head of four float32


def segment(key: str, tokens: int, parent: Segment | None = None) -> Segment:
    states = torch.zeros(1, tokens, 4)
    return Segment(key, parent, (parent.end if parent else 0) + tokens, [(states, states.clone())])


def test_the_least_recently_used_leaf_goes_first() -> None:
    cache = PrefixCache(30 * TOKEN)
    image = segment("image", 10)
    for part in (image, segment("first turn", 10, image), segment("other", 10)):
        cache.put(part)
    assert cache.used == 30 * TOKEN
    assert cache.get("first turn") is not None
    cache.put(segment("new", 5))
    assert cache.get("other") is None
    assert cache.get("image") is image
    assert cache.evictions == 1


def test_a_beginning_outlives_what_continues_it() -> None:
    cache = PrefixCache(20 * TOKEN)
    image = segment("image", 10)
    cache.put(image)
    cache.put(segment("turn", 10, image))
    cache.put(segment("new", 10))
    assert (cache.get("turn"), cache.get("image")) == (None, image)


def test_what_is_pinned_stays_and_what_has_no_room_is_not_kept() -> None:
    cache = PrefixCache(10 * TOKEN)
    image = segment("image", 10)
    cache.put(image)
    with cache.pinned([image]):
        cache.put(segment("new", 10))
    assert (cache.get("image"), cache.get("new")) == (image, None)
    cache.put(segment("new", 10))
    assert cache.get("image") is None
    assert cache.get("new") is not None


def test_a_segment_without_its_beginning_is_not_kept() -> None:
    cache = PrefixCache(100 * TOKEN)
    cache.put(segment("turn", 5, segment("never stored", 5)))
    assert len(cache) == 0


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 8)), max_size=40), st.integers(0, 40))
def test_the_budget_always_holds(puts: list[tuple[int, int]], budget: int) -> None:
    cache = PrefixCache(budget * TOKEN)
    for number, (parent, tokens) in enumerate(puts):
        cache.put(segment(str(number), tokens, cache.get(str(number - 1 - parent))))
        kept = [s for s in (cache.get(str(n)) for n in range(number + 1)) if s is not None]
        assert cache.used == sum(s.size for s in kept) <= budget * TOKEN
        assert all(cache.get(s.parent.key) is s.parent for s in kept if s.parent is not None)


def test_a_byte_lru_forgets_the_oldest() -> None:
    lru: ByteLRU[int] = ByteLRU(10)
    lru.put("a", 1, 5)
    lru.put("b", 2, 5)
    assert lru.get("a") == 1
    lru.put("c", 3, 5)
    assert (lru.get("a"), lru.get("b"), lru.get("c")) == (1, None, 3)
    lru.put("whole", 4, 11)
    assert lru.get("whole") is None
    assert lru.used == 10
