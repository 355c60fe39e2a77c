"""Official releases of benchmarks, prepared for lmms-eval under ``$DUALFOCUS_DATA``."""

from __future__ import annotations

from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.datasets.base import Benchmark
from dualfocus_eval.datasets.gqa import GQA
from dualfocus_eval.datasets.gqa_mcq import GQA_MCQ
from dualfocus_eval.datasets.hrbench import HR_BENCH
from dualfocus_eval.datasets.mmbench import MMBENCH_EN
from dualfocus_eval.datasets.mme_realworld import MME_REALWORLD_LITE
from dualfocus_eval.datasets.pope import POPE, POPE_AOKVQA, POPE_GQA
from dualfocus_eval.datasets.seed import SEED_IMG
from dualfocus_eval.datasets.textvqa import TEXTVQA
from dualfocus_eval.datasets.vstar import VSTAR

__all__ = ["BENCHMARKS", "benchmark_named"]

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        POPE, POPE_AOKVQA, POPE_GQA, GQA, GQA_MCQ, MMBENCH_EN, SEED_IMG, TEXTVQA, VSTAR, HR_BENCH, MME_REALWORLD_LITE,
    )
}  # fmt: skip


def benchmark_named(name: str) -> Benchmark:
    """The benchmark called ``name``. Raises ``UserError`` naming the right ones."""
    refuse_unknown([name], BENCHMARKS, "benchmarks", "name")
    return BENCHMARKS[name]
