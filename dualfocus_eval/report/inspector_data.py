"""What the inspector's page loads: an index for filters and sorting, texts for the search, and cards in chunks.

Each file is a script that calls a function of the page with its data, since a page that is opened from the file system
may load scripts and nothing else. Data are JSON in ASCII: nothing in them is markup or code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CHUNK", "Entry", "Facet", "Index", "Range", "data_files", "rounded", "write_data"]

CHUNK = 50
"""Cards in a file. A page of the inspector shows few, from as many files in a random order."""
TEXTS = 10_000
"""Questions in a file of texts to search."""
_SEARCHED = 1_000
"""Characters of each text that the search sees."""
_DIGITS = 6


@dataclass(frozen=True)
class Entry:
    """One question of the page."""

    task: str
    doc_id: int
    facets: Sequence[str | tuple[str, ...] | None]
    """A value for each `Facet`: one, several, or none."""
    ranges: Sequence[float]
    """A number for each `Range`; NaN where there is none."""
    texts: Sequence[str]
    """What the search looks through."""
    card: Any
    """The details, for JSON."""


@dataclass
class Facet:
    """A filter with a list of values."""

    name: str
    label: str
    words: dict[str, str] = field(default_factory=dict)
    """What a reader is told of a value, and the order of the list; others follow, sorted, as they are."""
    wanted: Sequence[str] = ()
    """The values that are chosen when the page opens; none for all."""
    wanted_words: str = ""
    """What these values are called together."""


@dataclass(frozen=True)
class Range:
    """A filter between two numbers, and an order of the cards."""

    name: str
    label: str
    scale: float = 1.0
    """What a value is multiplied with before it is shown."""


@dataclass(frozen=True)
class Index:
    """What the page shows beside the cards."""

    title: str
    about: Sequence[str]
    """What is shown."""
    notes: Sequence[str]
    """What is missing."""
    facets: Sequence[Facet]
    ranges: Sequence[Range]
    runs: Sequence[dict[str, Any]]
    """Of each run what its cards have in common."""
    pictures: str | None
    """The folder of the pictures, relative to the page; None where there are none."""
    report: str | None = None
    """The report's page, relative to this one; None where there is none."""


def data_files(count: int) -> list[str]:
    """The names of the files that `write_data` writes for so many questions."""
    cards = [f"cards-{part:05}.js" for part in range(-(-count // CHUNK))]
    texts = [f"texts-{part:05}.js" for part in range(-(-count // TEXTS))]
    return ["index.js", *texts, *cards]


def write_data(folder: Path, index: Index, entries: Iterable[Entry]) -> None:
    """Write the files into ``folder``, which exists. ``entries`` are taken one by one. Raises ``OSError``."""
    columns = _Columns(index)
    cards, texts = _Parts(folder, "cards", CHUNK), _Parts(folder, "texts", TEXTS)
    for entry in entries:
        columns.add(entry)
        cards.add(entry.card)
        texts.add("\n".join(text[:_SEARCHED] for text in entry.texts))
    cards.close()
    texts.close()
    (folder / "index.js").write_text(f"dualfocus.index({_json(columns.as_dict())});\n", encoding="ascii")


class _Parts:
    """Values in files of so many each, one of them in memory at a time."""

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self._folder, self._name, self._size = folder, name, size
        self._part, self._held = 0, list[Any]()

    def add(self, value: Any) -> None:
        self._held.append(value)
        if len(self._held) == self._size:
            self.close()

    def close(self) -> None:
        if self._held:
            path = self._folder / f"{self._name}-{self._part:05}.js"
            path.write_text(f"dualfocus.{self._name}({self._part},{_json(self._held)});\n", encoding="ascii")
            self._part, self._held = self._part + 1, []


class _Columns:
    """The index, column by column; values of a facet as their places in a list."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._tasks: dict[str, int] = {}
        self._places: list[tuple[int, int]] = []
        self._sets: list[dict[tuple[str, ...], int]] = [{} for _ in index.facets]
        self._codes: list[list[int]] = [[] for _ in index.facets]
        self._numbers: list[list[float | None]] = [[] for _ in index.ranges]

    def add(self, entry: Entry) -> None:
        self._places.append((self._tasks.setdefault(entry.task, len(self._tasks)), entry.doc_id))
        for value, sets, codes in zip(entry.facets, self._sets, self._codes, strict=True):
            found = () if value is None else (value,) if isinstance(value, str) else value
            codes.append(sets.setdefault(found, len(sets)))
        for number, numbers in zip(entry.ranges, self._numbers, strict=True):
            numbers.append(_rounded(number))

    def as_dict(self) -> dict[str, Any]:
        index, places = self._index, self._places
        return {
            "title": index.title,
            "about": list(index.about),
            "notes": list(index.notes),
            "runs": list(index.runs),
            "pictures": index.pictures,
            "report": index.report,
            "count": len(places),
            "chunk": CHUNK,
            "texts": TEXTS,
            "tasks": list(self._tasks),
            "task": [task for task, _ in places],
            "doc": [doc_id for _, doc_id in places],
            "facets": [
                _facet(facet, sets, codes)
                for facet, sets, codes in zip(index.facets, self._sets, self._codes, strict=True)
            ],
            "ranges": [
                {"name": one.name, "label": one.label, "scale": one.scale, "values": numbers}
                for one, numbers in zip(index.ranges, self._numbers, strict=True)
            ],
        }


def _facet(facet: Facet, sets: dict[tuple[str, ...], int], codes: list[int]) -> dict[str, Any]:
    """``sets`` are the different combinations of values, and ``codes`` the place of each question's among them."""
    found = {value for values in sets for value in values}
    ordered = [value for value in facet.words if value in found]
    ordered += sorted(found - facet.words.keys())
    place = {value: number for number, value in enumerate(ordered)}
    return {
        "name": facet.name,
        "label": facet.label,
        "values": [{"value": value, "label": facet.words.get(value, value)} for value in ordered],
        "sets": [[place[value] for value in values] for values in sets],
        "codes": codes,
        "wanted": {"values": [place[value] for value in facet.wanted if value in place], "label": facet.wanted_words},
    }


def _rounded(number: float) -> float | None:
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def rounded(value: Any) -> Any:
    """``value`` for JSON, its numbers with six digits, and its keys without those whose value is None or empty."""
    kind = type(value)
    if kind is float:
        return _rounded(value)
    if kind is dict:
        return {name: rounded(item) for name, item in value.items() if item or item == 0}
    return [rounded(item) for item in value] if kind is list else value
