"""A task's generation arguments, as far as greedy decoding has any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dualfocus_eval.errors import UserError

__all__ = ["GenerationLimits", "read_generation_kwargs"]

DEFAULT_MAX_NEW_TOKENS = 1024
"""What lmms-eval's own ``llava_hf`` takes where a task says nothing."""

_GREEDY: dict[str, Callable[[Any], bool]] = {
    "temperature": lambda value: float(value) == 0,
    "num_beams": lambda value: int(value) == 1,
    "repetition_penalty": lambda value: float(value) == 1,
    "no_repeat_ngram_size": lambda value: int(value) == 0,
    "min_new_tokens": lambda value: int(value) == 0,
}
"""Arguments that would change a greedy answer, each with what leaves it as it is."""


@dataclass(frozen=True)
class GenerationLimits:
    """Where a greedy answer ends, besides the end token."""

    max_new_tokens: int
    stop: tuple[str, ...]


def read_generation_kwargs(kwargs: Mapping[str, Any], task: str) -> GenerationLimits:
    """The limits that a task sets. Raises ``UserError`` for anything but greedy decoding, by the argument's name."""
    for name, is_greedy in _GREEDY.items():
        value = kwargs.get(name)
        if value is not None and not is_greedy(value):
            raise UserError(
                f"task {task}: generation argument {name}={value} is not supported, dualfocus decodes greedily; "
                f"override it with --gen_kwargs {name}={int(name in ('num_beams', 'repetition_penalty'))}"
            )
    if kwargs.get("do_sample") and kwargs.get("temperature") is None:
        raise UserError(
            f"task {task}: generation argument do_sample=True is not supported, dualfocus decodes greedily; "
            "override it with --gen_kwargs do_sample=false"
        )
    until = kwargs.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    max_new_tokens = kwargs.get("max_new_tokens")
    limit = DEFAULT_MAX_NEW_TOKENS if max_new_tokens is None else int(max_new_tokens)
    if limit < 1:
        raise UserError(f"task {task}: generation argument max_new_tokens={limit} must be 1 or more")
    return GenerationLimits(limit, tuple(text for text in stop if text))
