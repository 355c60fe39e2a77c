"""Visual Genome's records in the layouts of its releases, as typed values. Odd values are passed over, never raised on.

Boxes here are pixels of the image: (x1, y1, x2, y2), end excluded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeGuard

from dualfocus_eval.curation.elements import as_id, readable
from dualfocus_eval.curation.names import Kind, kind_of

__all__ = ["ImageData", "ImageObjects", "Instance", "PixelBox", "Referent", "image_data", "referents", "region_box"]

PixelBox = tuple[float, float, float, float]

_NUMBERS = (int, float)
FARTHEST = 1e9
"""Pixels. No coordinate of an image is larger."""
_REFERENTS = (
    ("q_objects", "question_objects", "question_synsets"),
    ("a_objects", "answer_objects", "answer_synsets"),
)
"""What question and answer refer to, under the key of v1.2 and of older releases."""
_PLACED = ("object_id", "id", "x", "y", "w", "h")
"""A referent with any of these claims to be a particular object; without them it is a word."""


class Instance:
    """One annotated object."""

    __slots__ = ("kind", "names", "record")

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.names, self.kind = _identity(record)

    @property
    def box(self) -> PixelBox | None:
        """None where the record has none with an area."""
        return _extent(self.record, "w", "h")


class Referent(NamedTuple):
    """Something that a question or its answer refers to."""

    object_id: int | None
    names: tuple[str, ...]
    kind: Kind
    box: PixelBox | None
    placed: bool
    """Whether it claims to be a particular object, as in v1.2, and not only a word."""


@dataclass(frozen=True)
class ImageData:
    """What image_data.json says of an image."""

    width: int
    height: int
    path: str
    """Below the image folder, e.g. ``VG_100K/1.jpg``."""


class ImageObjects:
    """All annotated objects of an image, found by id and by kind."""

    def __init__(self, elements: Iterable[Any]) -> None:
        self.all = [Instance(record) for record in elements if isinstance(record, dict)]
        self.by_key: dict[str, list[Instance]] = {}
        for instance in self.all:
            for key in instance.kind.listed:
                self.by_key.setdefault(key, []).append(instance)

    @cached_property
    def by_id(self) -> Mapping[int, Instance]:
        """By its own id and by those of the objects that were merged into it."""
        found: dict[int, Instance] = {}
        for instance in self.all:
            merged = instance.record.get("merged_object_ids")
            for object_id in (_object_id(instance.record), *(merged if isinstance(merged, list) else ())):
                known = as_id(object_id)
                if known is not None:
                    found.setdefault(known, instance)
        return found

    def alike(self, kind: Kind) -> list[Instance]:
        """The objects that may be of this kind, each once."""
        found = {id(instance): instance for key in kind.sought for instance in self.by_key.get(key, ())}
        return list(found.values())


def referents(qa: Mapping[str, Any]) -> tuple[list[Referent], list[Referent]]:
    """What the question refers to, and what the answer refers to."""
    question, answer = ([_referent(record) for record in _records(qa, keys)] for keys in _REFERENTS)
    return question, answer


def region_box(elements: Iterable[Any], region_id: int) -> PixelBox | None:
    """The box of one of an image's regions; None where the region is missing or has no area."""
    for record in elements:
        if isinstance(record, dict) and record.get("region_id", record.get("id")) == region_id:
            return _extent(record, "width", "height")
    return None


def image_data(record: Mapping[str, Any], image_id: int) -> ImageData | None:
    """An entry of image_data.json; None where it has no size.

    The image's path is taken from the entry's address, whose last two parts tell VG_100K and VG_100K_2 apart, or from
    its ``file_name``.
    """
    width, height = record.get("width"), record.get("height")
    if not (_is_number(width) and _is_number(height)) or width < 1 or height < 1:
        return None
    url, name = record.get("url"), record.get("file_name")
    parts = [part for part in url.split("?")[0].split("/") if part] if isinstance(url, str) else []
    if isinstance(name, str) and name:
        path = name
    elif len(parts) > 1 and parts[-2].startswith("VG_100K"):
        path = "/".join(parts[-2:])
    else:
        path = f"VG_100K/{image_id}.jpg"
    safe = [part for part in readable(path).split("/") if part not in ("", ".", "..")]
    return ImageData(int(width), int(height), "/".join(safe) or f"VG_100K/{image_id}.jpg")


def _records(qa: Mapping[str, Any], keys: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    for key in keys:
        entries = qa.get(key)
        found = [record for record in entries if isinstance(record, dict)] if isinstance(entries, list) else []
        if found:
            return found
    return []


def _referent(record: Mapping[str, Any]) -> Referent:
    names, kind = _identity(record)
    box = _extent(record, "w", "h")
    placed = box is not None or any(record.get(key) is not None for key in _PLACED)
    return Referent(as_id(_object_id(record)), names, kind, box, placed)


def _object_id(record: Mapping[str, Any]) -> Any:
    return record.get("object_id", record.get("id"))


def _identity(record: Mapping[str, Any]) -> tuple[tuple[str, ...], Kind]:
    """The names of an object, and what it may be confused with."""
    names = record.get("names") or record.get("name") or record.get("entity_name")
    synsets = record.get("synsets") or record.get("synset") or record.get("synset_name")
    try:
        return _known(_entries(names), _entries(synsets))
    except TypeError:
        # Not hashable: synsets as objects of their own, or nonsense.
        return _known(_texts(names), _texts(synsets))


@lru_cache(maxsize=1 << 18)
def _known(names: tuple[Any, ...], synsets: tuple[Any, ...]) -> tuple[tuple[str, ...], Kind]:
    shown, meant = ([readable(entry) for entry in entries if isinstance(entry, str)] for entries in (names, synsets))
    kept = tuple(name for name in shown if name)
    return kept, kind_of(kept, tuple(synset for synset in meant if synset))


def _entries(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _texts(value: Any) -> tuple[str, ...]:
    named = (entry.get("synset_name") if isinstance(entry, dict) else entry for entry in _entries(value))
    return tuple(entry for entry in named if isinstance(entry, str))


def _extent(record: Mapping[str, Any], width: str, height: str) -> PixelBox | None:
    x, y, w, h = record.get("x"), record.get("y"), record.get(width), record.get(height)
    if not (_is_number(x) and _is_number(y) and _is_number(w) and _is_number(h)) or w <= 0 or h <= 0:
        return None
    return x, y, x + w, y + h


def _is_number(value: Any) -> TypeGuard[float]:
    # The comparison fails for what is not a number, and bool is another type than int.
    return type(value) in _NUMBERS and -FARTHEST < value < FARTHEST
