"""A task's generation arguments, as far as greedy decoding has any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.stop_texts import named_stop_texts

__all__ = ["GenerationLimits", "read_generation_kwargs"]

DEFAULT_MAX_NEW_TOKENS = 1024
"""What lmms-eval's own ``llava_hf`` takes where a task says nothing."""

_GREEDY: dict[str, float] = {
    "temperature": 0,
    "num_beams": 1,
    "repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
}
"""Arguments that would change a greedy answer, each with the value that leaves it as it is."""


_HARMLESS = frozenset(("do_sample", "max_new_tokens", "until", "top_p", "top_k", "typical_p", "seed"))
"""Arguments that are read, or that change no greedy answer."""


@dataclass(frozen=True)
class GenerationLimits:
    """Where a greedy answer ends, besides the end token."""

    max_new_tokens: int
    stop: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    """Names of generation arguments that have no effect."""


def read_generation_kwargs(kwargs: Mapping[str, Any], task: str) -> GenerationLimits:
    """The limits that a task sets.

    Raises ``UserError`` for anything but greedy decoding and for a value of the wrong type, by the argument's name.
    """
    for name, greedy in _GREEDY.items():
        value = kwargs.get(name)
        if value is not None and _number(name, value, task) != greedy:
            raise UserError(
                f"task {task}: generation argument {name}={value} is not supported, dualfocus decodes greedily; "
                f"override it with --gen_kwargs {name}={greedy}"
            )
    if kwargs.get("do_sample") and kwargs.get("temperature") is None:
        raise UserError(
            f"task {task}: generation argument do_sample=True is not supported, dualfocus decodes greedily; "
            "override it with --gen_kwargs do_sample=false"
        )
    max_new_tokens = kwargs.get("max_new_tokens")
    limit = DEFAULT_MAX_NEW_TOKENS if max_new_tokens is None else _number("max_new_tokens", max_new_tokens, task)
    if limit < 1 or limit != int(limit):
        raise UserError(
            f"task {task}: generation argument max_new_tokens={max_new_tokens} must be a whole number, 1 or more"
        )
    until = kwargs.get("until") or ()
    if not isinstance(until, str | list | tuple) or not all(isinstance(text, str) for text in until):
        raise UserError(f"task {task}: generation argument until={until!r} is neither a text nor a list of texts")
    ignored = tuple(name for name in kwargs if name not in _HARMLESS and name not in _GREEDY)
    return GenerationLimits(int(limit), named_stop_texts(kwargs), ignored)


def _number(name: str, value: Any, task: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"task {task}: generation argument {name}={value!r} is not a number; give --gen_kwargs one")
    return number
