"""What a report is made of: sections with tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.common.tables import Table

__all__ = ["Drawing", "Section"]


@dataclass(frozen=True)
class Drawing:
    """A figure that has yet to be drawn."""

    caption: str
    draw: Callable[[], Any]
    """Gives a ``matplotlib.figure.Figure``."""


@dataclass(frozen=True)
class Section:
    """One subject. Tables and figures are named; the names become those of their files."""

    name: str
    title: str
    text: str
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Drawing] = field(default_factory=dict)
    data: Mapping[str, Table] = field(default_factory=dict)
    """Tables too long to read; they are written as CSV and JSON only."""
    links: Sequence[tuple[str, str]] = ()
    """Pages beside this one: label and relative address."""

    @property
    def empty(self) -> bool:
        return not (self.tables or self.figures or self.links)
