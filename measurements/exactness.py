"""Proof that batching, ordering and prefix reuse change no answer.

    python -m measurements.exactness --write                      # all architectures, docs/exactness.md and .csv
    python -m measurements.exactness --checkpoint FOLDER --write  # and a real checkpoint

The reference shares no code with the engine: per conversation one plain ``model.generate`` over what the checkpoint's
processor makes of it (and one plain forward for scores), with transformers' default cache and no padding.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dualfocus_eval.engines.base import Completion, Score
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import TransformersEngine, engine_of
from dualfocus_eval.engines.loading import load_checkpoint
from dualfocus_eval.families import family_of
from measurements.exactness_page import PAGE, Row, write_rows
from measurements.plain_reference import Reference, reference
from measurements.random_models import ARCHITECTURES, build

TOLERANCE = 1e-4
"""Agreement of float32 log-probabilities, and the gap of two best logits below which rows may part."""
MAX_PARTED = 0.01
BATCH_SIZES = (1, 3, 16)
CACHES = ("off", "on", "evicting")


@dataclass
class Agreement:
    """How one configuration of the engine compares with the reference."""

    rows: int = 0
    tokens: int = 0
    worst: float = 0.0
    """Largest difference of log-probabilities before rows part."""
    parted: int = 0
    """Rows whose tokens differ from where the reference's two best logits are within the tolerance."""
    wrong: list[str] = field(default_factory=list)
    """Rows whose tokens differ otherwise, or which failed."""
    reused: float = 0.0
    evictions: int = 0

    def holds(self, exact: bool) -> bool:
        """Whether the contract holds; ``exact`` (float64) allows no parting at all."""
        parted = 0 if exact else math.floor(MAX_PARTED * self.rows)
        return not self.wrong and self.worst <= TOLERANCE and self.parted <= parted

    def row(self, model: str, dtype: str, batch: int, cache: str) -> Row:
        """It as a row of the table."""
        found = (self.rows, self.tokens, self.worst, self.parted, len(self.wrong), self.reused, self.evictions)
        return Row(model, dtype, batch, cache, *found)


def compare(checkpoint: Checkpoint, expected: Reference, batch_size: int, cache: str, seed: int = 0) -> Agreement:
    """Run the engine over the reference's requests in a random order and compare."""
    budget = {"off": 0, "on": 1 << 30, "evicting": _small_budget(checkpoint)}[cache]
    engine = engine_of(checkpoint, batch_size, budget)
    rng = random.Random(seed)
    result = Agreement()
    done = 0
    for requests in (expected.first, expected.second):
        order = rng.sample(range(len(requests)), len(requests))
        for index, completion in zip(order, engine.generate([requests[i] for i in order]), strict=True):
            _compare_answer(result, completion, *expected.answers[done + index])
        done += len(requests)
    order = rng.sample(range(len(expected.scores)), len(expected.scores))
    for index, score in zip(order, engine.score([expected.scores[i] for i in order]), strict=True):
        if not isinstance(score, Score):
            result.wrong.append(f"score {index}: {score}")
            continue
        result.rows += 1
        result.tokens += len(score.logprobs)
        gaps = (abs(a - b) for a, b in zip(score.logprobs, expected.scored[index], strict=True))
        result.worst = max(result.worst, *gaps)
    counters = engine.counters
    result.reused = counters.tokens_reused / (counters.tokens_reused + counters.tokens_prefilled)
    result.evictions = engine.prefix_cache.evictions if isinstance(engine, TransformersEngine) else 0
    return result


def _compare_answer(result: Agreement, completion: Any, wanted: Completion, gaps: Sequence[float]) -> None:
    result.rows += 1
    if not isinstance(completion, Completion):
        result.wrong.append(str(completion))
        return
    same = list(itertools.takewhile(lambda p: p[0] == p[1], zip(completion.token_ids, wanted.token_ids, strict=False)))
    agreeing = len(same)
    if completion.token_ids != wanted.token_ids:
        if agreeing < len(gaps) and gaps[agreeing] <= TOLERANCE:
            result.parted += 1
        else:
            result.wrong.append(f"{completion.token_ids} instead of {wanted.token_ids}")
    elif completion.finish != wanted.finish:
        result.wrong.append(f"ended by {completion.finish} instead of {wanted.finish}")
    elif completion.gap is None or wanted.gap is None or abs(completion.gap - wanted.gap) > 2 * TOLERANCE:
        result.wrong.append(f"gap {completion.gap} instead of {wanted.gap}")
    pairs = zip(completion.logprobs[:agreeing], wanted.logprobs[:agreeing], strict=True)
    result.worst = max([result.worst, *(abs(a - b) for a, b in pairs)])
    result.tokens += agreeing


def _small_budget(checkpoint: Checkpoint) -> int:
    """Bytes for about 120 tokens: a handful of prefixes at most."""
    text = checkpoint.model.config.get_text_config()
    width = sum(
        layer.num_key_value_heads * (getattr(layer, "head_dim", None) or text.hidden_size // text.num_attention_heads)
        for layer in text.per_layer_config[: checkpoint.layers]
    )
    return 120 * 2 * width * checkpoint.model.dtype.itemsize


def random_checkpoint(architecture: str, dtype: torch.dtype, device: str = "cpu") -> Checkpoint:
    """A small random model of ``architecture`` on ``device``, ready for the engine."""
    model, processor = build(architecture, dtype)
    return prepare(model.to(device), processor, family_of(architecture), architecture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", action="append", default=[], help="a checkpoint folder to include")
    parser.add_argument("--questions", type=int, default=70, help="questions; each is three conversations and a score")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES), help="random models to include")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} and the rows beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    sound = True
    for name in [*filter(None, options.architectures.split(",")), *options.checkpoint]:
        for dtype in ("float32", "float64", "bfloat16"):
            if name in ARCHITECTURES:
                checkpoint = random_checkpoint(name, getattr(torch, dtype))
            else:
                checkpoint = load_checkpoint(EngineConfig(name, dtype=dtype, device="cpu"))
            expected = reference(checkpoint, options.questions)
            # Half precision is measured, not promised.
            promised = dtype != "bfloat16"
            caches = CACHES if checkpoint.no_reuse is None else CACHES[:1]
            batch_sizes = BATCH_SIZES if promised else BATCH_SIZES[-1:]
            settings = [(b, c) for b in batch_sizes for c in caches if promised or c != "evicting"]
            for number, (batch_size, cache) in enumerate(settings):
                result = compare(checkpoint, expected, batch_size, cache, seed=number)
                sound &= not promised or result.holds(exact=dtype == "float64")
                sound &= cache != "evicting" or result.evictions > 0
                rows.append(result.row(Path(name).name, dtype, batch_size, cache))
                print(rows[-1], flush=True)
                if promised:
                    for line in result.wrong[:3]:
                        print("   ", line, file=sys.stderr)
    if options.write:
        write_rows(rows)
    print("holds" if sound else "DOES NOT HOLD")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
