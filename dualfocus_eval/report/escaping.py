"""Text that comes from files, made harmless for the medium that shows it."""

from __future__ import annotations

from dualfocus_eval.report.tables import visible

__all__ = ["one_line"]


def one_line(text: str) -> str:
    """``text`` for a terminal or a log: `visible`, and on one line."""
    return visible(text).replace("\n", "\\x0a")
