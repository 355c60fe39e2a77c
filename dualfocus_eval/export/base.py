"""What is exported of a run, and what an export format has to offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dualfocus_eval.analysis.cards import Card

__all__ = ["ExportFormat", "Exported", "plain_row"]


@dataclass(frozen=True)
class Exported:
    """The questions of a run with their pictures."""

    name: str
    """Of the run."""
    about: Mapping[str, Any]
    """What the run was, as plain values."""
    cards: Callable[[], Iterator[Card]]
    """A card of each question, each time anew: they need not all be in memory."""
    pictures: Mapping[str, Path]
    """The kept pictures by `cards.CardImage.digest`."""

    def picture_of(self, card: Card) -> Path | None:
        """The kept picture of a question; None where there is none."""
        return self.pictures.get(card.image.digest) if card.image else None


class ExportFormat(Protocol):
    """One format. ``name`` is what ``--to`` calls it."""

    @property
    def name(self) -> str: ...

    def write(self, exported: Exported, out: Path) -> Sequence[str]:
        """Write into the empty folder ``out``, and say what of the run is not in it. Raises ``OSError`` where that
        cannot be written."""
        ...


def plain_row(card: Card, picture: str | None) -> dict[str, Any]:
    """`Card.to_dict` with the field ``picture``, in texts that every file can hold."""
    found: dict[str, Any] = _storable(card.to_dict() | {"picture": picture})
    return found


def _storable(value: Any) -> Any:
    """``value``, the halves of characters in it, which no file in UTF-8 can hold, replaced by question marks."""
    if isinstance(value, str):
        return str(value.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
