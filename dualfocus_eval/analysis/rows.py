"""A trace as one row of a table: everything that reports need, as plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.selection import RULES, Rule, released_nll
from dualfocus_eval.traces.record import Trace

__all__ = [
    "COUNTERS", "NO_TRACE", "PHASES", "TRACE_COLUMNS", "TRACE_TYPES", "compared_columns", "pick_column", "trace_row",
]  # fmt: skip

_CORNERS = ("x1", "y1", "x2", "y2")
_SIDES = ("left", "top", "right", "bottom")
COUNTERS = ("questions", "images_encoded", "tokens_prefilled", "tokens_reused", "decode_steps", "batch_halvings")
PHASES = ("preprocess", "vision", "prefill", "decode")


def pick_column(rule: Rule) -> str:
    """The column that says which pathway ``rule`` picks."""
    return f"pick_{rule}"


_TEXT_COLUMNS = (
    "question_digest", "cluster", "kind", "macro_text", "macro_finish", "micro_text", "micro_finish", "box_text",
    "outcome", "scored", *map(pick_column, RULES), "selected", "decision", "fallback", "error",
)  # fmt: skip
_NUMBER_COLUMNS = (
    "width", "height", "gap",
    "macro_nll", "macro_tokens", "micro_nll", "micro_tokens", "box_nll", "box_tokens",
    "macro_context_nll", "micro_context_nll", "macro_released_nll", "micro_released_nll",
    *(f"box_{corner}" for corner in _CORNERS), *(f"crop_{side}" for side in _SIDES),
    *(f"cost_{counter}" for counter in COUNTERS), *(f"seconds_{phase}" for phase in PHASES),
)  # fmt: skip
TRACE_COLUMNS = (*_TEXT_COLUMNS, *_NUMBER_COLUMNS, "skipped_micro")
TRACE_TYPES = (
    dict.fromkeys(_TEXT_COLUMNS, "str") | dict.fromkeys(_NUMBER_COLUMNS, "float64") | {"skipped_micro": "bool"}
)
NO_TRACE: tuple[Any, ...] = (*[None] * len(_TEXT_COLUMNS), *[math.nan] * len(_NUMBER_COLUMNS), False)


def compared_columns(rule: Rule) -> tuple[str, str]:
    """The columns of the NLLs of the macro and the micro candidate that ``rule`` compares."""
    context = {"own": "", "micro": "_context", "released": "_released"}[rule]
    return f"macro{context}_nll", f"micro{context}_nll"


def trace_row(trace: Trace) -> tuple[Any, ...]:
    """The values of `TRACE_COLUMNS`; what a trace does not have is None or NaN.

    The ``pick_`` columns are filled for every answered question: without a choice to make, every rule has picked what
    there is. ``cost_questions`` and its like stand in the first row of each batch, so that sums hold.
    """
    image = trace.images[0] if trace.images else None
    grounding, scores = trace.grounding, trace.scores
    picks = trace.picks or dict.fromkeys(RULES, trace.selected)
    texts = (
        trace.question_digest,
        image.digest if image else trace.key,
        str(trace.kind),
        *_words(trace.macro),
        *_words(trace.micro),
        grounding.response.text if grounding else None,
        str(grounding.outcome) if grounding else None,
        scores.scored if scores else None,
        *(picks.get(rule) for rule in RULES),
        trace.selected,
        str(trace.decision) if trace.decision else None,
        str(trace.fallback) if trace.fallback else None,
        trace.error.kind if trace.error else None,
    )
    numbers = (
        *((image.width, image.height) if image else (math.nan, math.nan)),
        _gap(trace),
        *_likelihood(trace.macro),
        *_likelihood(trace.micro),
        *_likelihood(grounding.response if grounding else None),
        *_rescored(trace),
        *_corners(grounding.box if grounding else None),
        *_sides(grounding.crop if grounding else None),
        *_cost(trace),
    )
    return (*texts, *numbers, trace.skipped_micro)


def _words(completion: Completion | None) -> tuple[str | None, str | None]:
    return (completion.text, completion.finish) if completion else (None, None)


def _likelihood(completion: Completion | None) -> tuple[float, float]:
    return (completion.nll, len(completion.token_ids)) if completion else (math.nan, math.nan)


def _gap(trace: Trace) -> float:
    """The smallest `Completion.gap` of all that was generated; NaN where one is unknown."""
    texts = (trace.macro, trace.micro, trace.grounding.response if trace.grounding else None)
    gaps = [math.nan if text.gap is None else text.gap for text in texts if text and text.token_ids]
    return math.nan if not gaps or any(map(math.isnan, gaps)) else min(gaps)


def _rescored(trace: Trace) -> Sequence[float]:
    """Mean NLLs of both candidates in micro context, over the answer and over box and answer."""
    if trace.scores is None or trace.grounding is None:
        return (math.nan,) * 4
    response, scores = trace.grounding.response.logprobs, trace.scores
    return (
        scores.macro_nll,
        scores.micro_nll,
        released_nll(response, scores.macro),
        released_nll(response, scores.micro),
    )


def _sides(crop: Crop | None) -> Sequence[float]:
    return (crop.left, crop.top, crop.right, crop.bottom) if crop else (math.nan,) * 4


def _corners(box: Box | None) -> Sequence[float]:
    return (box.x1, box.y1, box.x2, box.y2) if box else (math.nan,) * 4


def _cost(trace: Trace) -> Sequence[float]:
    if trace.cost is None:
        return (math.nan,) * (len(COUNTERS) + len(PHASES))
    counts = [getattr(trace.cost, counter) for counter in COUNTERS]
    return (*counts, *(trace.cost.seconds.get(phase, 0.0) for phase in PHASES))
