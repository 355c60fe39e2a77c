"""What to say about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from dualfocus_eval.common.errors import UserError

__all__ = ["did_you_mean", "refuse_unknown", "unknown_name"]


def refuse_unknown(names: Iterable[str], allowed: Iterable[str], where: str, what: str) -> None:
    """Raise ``UserError`` for the first of ``names`` that is not ``allowed``, with the nearest one and all of them."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise UserError(f"{where}: {unknown_name(name, allowed, what)}")


def unknown_name(name: object, allowed: Iterable[str], what: str) -> str:
    """Says that ``name`` is unknown, and names the nearest of ``allowed`` and all of them."""
    allowed = sorted(allowed)
    return f"unknown {what} {str(name)!r}.{did_you_mean(name, allowed)} Known: {', '.join(allowed)}."


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Asks for the nearest of ``allowed``, with a space before it; empty where none is near."""
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
