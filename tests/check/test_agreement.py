"""What counts as agreement, and a prefix cache that is broken on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from dualfocus_eval.check.agreement import HALF_TOLERANCE, MOST_DIFFERING, TOLERANCE, Agreement, compare_variants
from dualfocus_eval.check.passes import run_passes
from dualfocus_eval.check.probes import embedded_probes
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.method.settings import Settings
from tests.check.broken import forget_images

SETTINGS = Settings(margin=12)


def found(**changes: Any) -> Agreement:
    values = {"answers": 100, "differing": 0, "close_calls": 0, "failed": 0, "largest": 0.0}
    return Agreement("one at a time", **{**values, **changes})


@pytest.mark.parametrize(
    ("dtype", "changes", "holds"),
    [
        ("float32", {}, True),
        ("float32", {"largest": TOLERANCE / 2}, True),
        ("float32", {"largest": TOLERANCE * 2}, False),
        ("float32", {"differing": 1, "close_calls": 1}, True),
        ("float32", {"differing": 2, "close_calls": 1}, False),
        ("float64", {"largest": TOLERANCE * 2}, False),
        ("bfloat16", {"differing": 5, "largest": 0.2}, True),
        ("float16", {"differing": int(100 * MOST_DIFFERING) + 1}, False),
        ("float16", {"differing": int(100 * MOST_DIFFERING) + 1, "close_calls": 1}, True),
        ("bfloat16", {"largest": 2 * HALF_TOLERANCE}, False),
        ("bfloat16", {"failed": 1}, False),
    ],
)
def test_what_is_expected_depends_on_the_dtype(dtype: str, changes: dict[str, Any], holds: bool) -> None:
    assert found(**changes).holds(dtype) is holds


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return load_engine(resolve({"batch_size": 4}).engine)


def compared(engine: TransformersEngine) -> list[Agreement]:
    probes = embedded_probes(4)
    return compare_variants(run_passes(probes, engine, SETTINGS, 4).calls, engine)


def test_every_variant_repeats_both_passes(engine: TransformersEngine) -> None:
    variants = compared(engine)
    assert [one.variant for one in variants] == [
        "batches of 8, no prefix reuse",
        "one at a time, prefix reuse",
        "one at a time, no prefix reuse",
    ]
    assert all(one.answers == 12 and one.holds("float32") for one in variants)


def test_without_reuse_only_batches_are_compared(engine: TransformersEngine) -> None:
    plain = engine.variant(8, reuse=False)
    assert plain.info.no_reuse == "prefix_cache_gib=0"
    (only,) = compared(plain)
    assert (only.variant, only.answers) == ("one at a time, no prefix reuse", 12)


def test_a_cache_that_takes_one_image_for_another_is_noticed(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_images(monkeypatch)
    batched, _, none = compared(engine.variant(8, reuse=True))
    assert not batched.holds("float32")
    assert not batched.holds("bfloat16")
    assert batched.largest > 0.1
    assert not none.holds("float32")
