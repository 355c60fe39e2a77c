"""A trace as one row of a table: everything that reports need, as plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.selection import RULES, costs_of, picks_of
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.traces.record import Pathway, Trace

__all__ = [
    "COUNTERS", "OTHER_PICKS", "PHASES", "TRACE_TYPES", "cost_columns", "no_trace", "pick_column", "pick_reader",
    "picked_rules", "rule_types", "trace_row",
]  # fmt: skip

_CORNERS = ("x1", "y1", "x2", "y2")
_SIDES = ("left", "top", "right", "bottom")
COUNTERS = ("questions", "images_encoded", "tokens_prefilled", "tokens_reused", "decode_steps", "batch_halvings")
PHASES = ("preprocess", "vision", "prefill", "decode", "detector")
"""Whose seconds traces tell; the last is not the model's, and only `grounding=detector` has it."""


OTHER_PICKS = "other_picks"
"""The column of what rules picked that are not installed here: a mapping by name, None where there is none."""
_PICK = "pick_"


def pick_column(rule: str) -> str:
    """The column that says which pathway the rule of that name picks."""
    return f"{_PICK}{rule}"


def cost_columns(rule: str) -> tuple[str, str]:
    """The columns of the costs of the macro and the micro candidate that the rule of that name compares, in nats."""
    return f"{rule}_macro_cost", f"{rule}_micro_cost"


def picked_rules(columns: Sequence[str]) -> tuple[str, ...]:
    """The names of the rules that have a `pick_column` among ``columns``."""
    return tuple(name.removeprefix(_PICK) for name in columns if name.startswith(_PICK))


_TEXT_COLUMNS = (
    "question_digest", "cluster", "kind", "macro_text", "macro_finish", "micro_text", "micro_finish", "box_text",
    "outcome", "scored", "selected", "decision", "fallback", "error",
)  # fmt: skip
_NUMBER_COLUMNS = (
    "width", "height", "gap",
    "macro_nll", "macro_tokens", "micro_nll", "micro_tokens", "box_nll", "box_tokens",
    *(f"box_{corner}" for corner in _CORNERS), *(f"crop_{side}" for side in _SIDES),
    *(f"cost_{counter}" for counter in COUNTERS), *(f"seconds_{phase}" for phase in PHASES),
)  # fmt: skip
TRACE_TYPES: Mapping[str, str] = (
    dict.fromkeys(_TEXT_COLUMNS, "str")
    | dict.fromkeys(_NUMBER_COLUMNS, "float64")
    | {"skipped_micro": "bool", OTHER_PICKS: "object"}
)
"""The columns of a trace that are there whatever rules are installed, with their types, in order."""


def rule_types(fitted: SelectionRule | None = None) -> dict[str, str]:
    """The columns that follow those of `TRACE_TYPES`, with their types, in order: three for each installed rule, and
    for ``fitted``, a calibrated choice."""
    types: dict[str, str] = {}
    for rule in _names(fitted):
        types |= {pick_column(rule): "str"} | dict.fromkeys(cost_columns(rule), "float64")
    return types


def _names(fitted: SelectionRule | None) -> tuple[str, ...]:
    return (*RULES.items, fitted.name) if fitted else tuple(RULES.items)


def no_trace(fitted: SelectionRule | None = None) -> tuple[Any, ...]:
    """The row of a question without a trace."""
    fixed = (*[None] * len(_TEXT_COLUMNS), *[math.nan] * len(_NUMBER_COLUMNS), False, None)
    return (*fixed, *[None, math.nan, math.nan] * len(_names(fitted)))


def trace_row(trace: Trace, fitted: SelectionRule | None = None) -> tuple[Any, ...]:
    """The values of the columns of `TRACE_TYPES` and `rule_types`; what a trace does not have is None or NaN.

    The ``pick_`` columns are filled for every answered question: without a choice to make, every rule has picked what
    there is. ``cost_questions`` and its like stand in the first row of each batch, so that sums hold.
    """
    image = trace.images[0] if trace.images else None
    grounding, scores = trace.grounding, trace.scores
    others = {rule: pathway for rule, pathway in trace.picks.items() if rule not in RULES}
    texts = (
        trace.question_digest,
        image.digest if image else trace.key,
        str(trace.kind),
        *_words(trace.macro),
        *_words(trace.micro),
        grounding.response.text if grounding and grounding.response else None,
        str(grounding.outcome) if grounding else None,
        scores.scored if scores else None,
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
        *_corners(grounding.box if grounding else None),
        *_sides(grounding.crop if grounding else None),
        *_cost(trace),
    )
    return (*texts, *numbers, trace.skipped_micro, others or None, *_rules(trace, fitted))


def _rules(trace: Trace, fitted: SelectionRule | None) -> Iterator[Any]:
    """What each rule picks, and the costs of both candidates that it compares."""
    names = _names(fitted)
    picks: Mapping[str, Pathway | None] = picks_of(trace, fitted) or dict.fromkeys(names, trace.selected)
    costs = costs_of(trace, fitted)
    for rule in names:
        yield picks.get(rule)
        yield from costs.get(rule, (math.nan, math.nan))


def pick_reader(rule: str, fitted: SelectionRule | None = None) -> Callable[[tuple[Any, ...]], str | None]:
    """From the row of a trace to what the rule of that name picks there; None where it does not."""
    if rule in _names(fitted):
        return itemgetter([*TRACE_TYPES, *rule_types(fitted)].index(pick_column(rule)))
    others = [*TRACE_TYPES].index(OTHER_PICKS)
    return lambda row: (row[others] or {}).get(rule)


def _words(completion: Completion | None) -> tuple[str | None, str | None]:
    return (completion.text, completion.finish) if completion else (None, None)


def _likelihood(completion: Completion | None) -> tuple[float, float]:
    return (completion.nll, len(completion.token_ids)) if completion else (math.nan, math.nan)


def _gap(trace: Trace) -> float:
    """The smallest `Completion.gap` of all that was generated; NaN where one is unknown."""
    texts = (trace.macro, trace.micro, trace.grounding.response if trace.grounding else None)
    gaps = [math.nan if text.gap is None else text.gap for text in texts if text and text.token_ids]
    return math.nan if not gaps or any(map(math.isnan, gaps)) else min(gaps)


def _sides(crop: Crop | None) -> Sequence[float]:
    return (crop.left, crop.top, crop.right, crop.bottom) if crop else (math.nan,) * 4


def _corners(box: Box | None) -> Sequence[float]:
    return box.corners if box else (math.nan,) * 4


def _cost(trace: Trace) -> Sequence[float]:
    if trace.cost is None:
        return (math.nan,) * (len(COUNTERS) + len(PHASES))
    counts = [getattr(trace.cost, counter) for counter in COUNTERS]
    return (*counts, *(trace.cost.seconds.get(phase, 0.0) for phase in PHASES))
