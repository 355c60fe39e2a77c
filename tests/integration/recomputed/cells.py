"""What a report's table should hold: numbers with their intervals and units, texts, and the numbers of its notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "Interval", "Measured", "Table", "agrees", "percent", "plain", "points"]


@dataclass(frozen=True)
class Measured:
    """A measured value; the interval is None where there is none."""

    value: float
    interval: tuple[float, float] | None = None
    unit: str = ""


Cell = Measured | str | int | None
Interval = tuple[float, float]


@dataclass(frozen=True)
class Table:
    """Rows under a header, and the numbers that its title and notes say beside the 95 of the intervals."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    noted: Sequence[str] | None = ()
    """None where title and notes are texts of others."""


def percent(value: float, interval: Interval | None = None) -> Measured:
    """A share from 0 to 1, and its interval, in per cent."""
    return Measured(100 * value, interval and (100 * interval[0], 100 * interval[1]), "%")


def points(value: float, interval: Interval | None = None) -> Measured:
    """A difference of shares in percentage points."""
    return Measured(100 * value, interval and (100 * interval[0], 100 * interval[1]), "points")


def plain(value: float) -> Measured:
    """A number without a unit."""
    return Measured(float(value))


def agrees(found: Any, cell: Cell) -> bool:
    """Whether a cell of the report's JSON is this one; numbers up to what rounding leaves of a different order."""
    if not isinstance(cell, Measured):
        return bool(found == cell and type(found) is type(cell))
    value = None if math.isnan(cell.value) else cell.value
    numbers = {"value": value} | dict(zip(("low", "high"), cell.interval or (), strict=False))
    return (
        isinstance(found, dict)
        and found.keys() == {*numbers, "unit"}
        and found["unit"] == cell.unit
        and all(_close(found[name], number) for name, number in numbers.items())
    )


def _close(found: float | None, number: float | None) -> bool:
    if found is None or number is None:
        return found is number
    return math.isclose(found, number, rel_tol=1e-9, abs_tol=1e-9)
