"""The contract's core: no batch size, order, cache or budget changes an answer. The reference is plain transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch

from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.families import FAMILIES
from measurements.exactness import compare, random_checkpoint
from measurements.plain_reference import Reference, reference


@functools.cache
def _expected(architecture: str, dtype: torch.dtype) -> tuple[Checkpoint, Reference]:
    checkpoint = random_checkpoint(architecture, dtype)
    return checkpoint, reference(checkpoint, count=6, longest=14)


@pytest.mark.parametrize(("batch_size", "cache"), [(1, "on"), (3, "evicting"), (16, "on"), (16, "off")])
@pytest.mark.parametrize("architecture", FAMILIES.items)
def test_float32_agrees_with_plain_generate(architecture: str, batch_size: int, cache: str) -> None:
    result = compare(*_expected(architecture, torch.float32), batch_size, cache, seed=batch_size)
    assert result.holds(exact=False), result
    assert result.tokens > 100
    assert (result.reused > 0) == (cache != "off")
    assert (result.evictions > 0) == (cache == "evicting")


@pytest.mark.parametrize("architecture", FAMILIES.items)
def test_float64_is_identical(architecture: str) -> None:
    result = compare(*_expected(architecture, torch.float64), batch_size=3, cache="on")
    assert result.holds(exact=True), result
    assert result.worst < 1e-5  # a mixture's router and softmax are computed in float32 all the same


def test_a_wrong_answer_is_noticed(checkpoint_of: Callable[..., Checkpoint]) -> None:
    checkpoint, expected = _expected("llava", torch.float32)
    other = checkpoint_of("llava_next")
    assert not compare(other, expected, 3, "on").holds(exact=False)
    assert compare(checkpoint, expected, 3, "on").holds(exact=False)


@pytest.mark.prove
@pytest.mark.parametrize("architecture", FAMILIES.items)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_long_form(architecture: str, dtype: torch.dtype) -> None:
    checkpoint = random_checkpoint(architecture, dtype)
    expected = reference(checkpoint, count=67)
    for batch_size in (1, 3, 16):
        for cache in ("off", "on", "evicting"):
            result = compare(checkpoint, expected, batch_size, cache, seed=batch_size)
            assert result.rows >= 200
            assert result.holds(exact=dtype == torch.float64), (batch_size, cache, result)
            assert (result.evictions > 0) == (cache == "evicting")
