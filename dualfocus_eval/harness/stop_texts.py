"""Which stop texts a task names itself, and which lmms-eval filled in.

lmms-eval writes ``until: ["\\n\\n"]``, its delimiter between few-shot examples, into every task that names no stop
text. Its own chat models do not stop there: an answer would end at its first empty line.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

__all__ = ["named_stop_texts", "tell_stop_texts_apart"]

_FEWSHOT_DELIMITER = "\n\n"


class _FilledIn(list[str]):
    """Stop texts that lmms-eval wrote into a task's configuration."""


class _Observed(dict[str, Any]):
    """Generation arguments of a task whose own ``until`` was seen before lmms-eval could fill it in."""


def tell_stop_texts_apart(task_config: Any) -> None:
    """Mark ``until`` in each ``TaskConfig`` made from now on where it is filled in; repeated calls are free.

    The marks are a list's and a dict's subclass, which nothing else in lmms-eval can tell from a list and a dict. They
    survive ``--gen_kwargs``, which replaces single entries.
    """
    fill_in = task_config.__post_init__
    if hasattr(fill_in, "with_dualfocus"):
        return

    @functools.wraps(fill_in)
    def __post_init__(self: Any) -> None:  # noqa: N807
        # lmms-eval fills in the caller's own dict, which the next task may be made of.
        given = None if self.generation_kwargs is None else _Observed(self.generation_kwargs)
        names_until = given is not None and "until" in given
        self.generation_kwargs = given
        fill_in(self)
        if self.generation_kwargs is not None and not names_until:
            filled_in = _FilledIn(self.generation_kwargs.get("until") or ())
            self.generation_kwargs = _Observed(self.generation_kwargs, until=filled_in)

    __post_init__.with_dualfocus = True  # type: ignore[attr-defined]
    task_config.__post_init__ = __post_init__


def named_stop_texts(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts at which a task's own generation arguments end an answer; empty ones are left out.

    Of a task that was made before this package was loaded nobody knows who wrote the few-shot delimiter. It then counts
    as filled in.
    """
    until = kwargs.get("until") or ()
    if isinstance(until, _FilledIn) or (not isinstance(kwargs, _Observed) and until == [_FEWSHOT_DELIMITER]):
        return ()
    return tuple(text for text in ((until,) if isinstance(until, str) else until) if text)
