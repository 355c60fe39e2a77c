"""A big JSON list as an index of its elements, so that each can be read on its own and in any order.

Visual Genome's files are lists of one object per image, up to a gigabyte long. One pass over the bytes finds where each
element starts and ends and which image it is about, without parsing what lies inside; nothing but the index is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import open_regular

__all__ = ["Element", "ElementIndex", "Unreadable", "as_id", "index_elements", "parse_json", "readable"]

CHUNK = 16 << 20
"""Bytes read at once."""
LONGEST = 64 << 20
"""Bytes. No image has this much to say; what seems to is an unclosed bracket or string."""

_BOM = b"\xef\xbb\xbf"
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_MARKS = bytes(byte in b'"{}[]' for byte in range(256))


@dataclass(frozen=True)
class Unreadable:
    """What could not be read, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Element:
    """Bytes ``start`` to ``start + length`` of the file."""

    start: int
    length: int


@dataclass(frozen=True)
class ElementIndex:
    """Where the elements of one file are, in file order. Elements that are no JSON objects are not among them."""

    path: Path
    starts: npt.NDArray[np.int64]  # (elements,)
    lengths: npt.NDArray[np.int64]  # (elements,)
    images: npt.NDArray[np.int64]  # (elements,), the image's id; -1 where the element has none
    faults: tuple[Unreadable, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def element(self, number: int) -> Element:
        """The element at a position in file order."""
        return Element(int(self.starts[number]), int(self.lengths[number]))

    def of_image(self, image_id: int) -> tuple[Element, ...]:
        """All elements about one image; more than one where the file has it twice."""
        return tuple(self.element(number) for number in self._positions.get(image_id, ()))

    @cached_property
    def _positions(self) -> Mapping[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        for number, image in enumerate(self.images.tolist()):
            found[image] = (*found.get(image, ()), number)
        found.pop(-1, None)
        return found


def index_elements(path: Path) -> ElementIndex:
    """Read ``path`` once. A list that breaks off or is damaged gives the elements before that, and a fault.

    Raises ``UserError`` for a file that cannot be read or does not begin as a list.
    """
    starts: list[int] = []
    lengths: list[int] = []
    images: list[int] = []
    faults: list[Unreadable] = []
    try:
        with open_regular(path) as file:
            for found in _elements(file, path):
                if isinstance(found, Unreadable):
                    faults.append(found)
                    continue
                start, length, skeleton = found
                try:
                    record = parse_json(skeleton)
                except ValueError as error:
                    faults.append(Unreadable(_place(path, start), f"is not JSON: {error}"))
                    continue
                if not isinstance(record, dict):
                    faults.append(Unreadable(_place(path, start), "is not a JSON object"))
                    continue
                image = as_id(record.get("image_id", record.get("id")))
                if image is None:
                    faults.append(Unreadable(_place(path, start), "has no image id"))
                starts.append(start)
                lengths.append(length)
                images.append(-1 if image is None else image)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    start_column, length_column, image_column = (np.array(column, np.int64) for column in (starts, lengths, images))
    return ElementIndex(path, start_column, length_column, image_column, tuple(faults))


def parse_json(content: bytes) -> Any:
    """The value. Raises ``ValueError`` for whatever cannot be parsed, too deep nesting included."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_id(value: Any) -> int | None:
    """An id of Visual Genome: a whole number from 0 that fits 63 bits, also written as text; None for all else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    # Not isinstance, for which true and false are numbers.
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def readable(text: str) -> str:
    """The text on one line, half characters (lone surrogates, which JSON can hold and UTF-8 cannot) replaced."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split())


def _elements(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, bytes] | Unreadable]:
    """(start, length, the element with its nested containers emptied) per element, and what is wrong between them."""
    buffer = file.read(CHUNK)
    head = buffer.removeprefix(_BOM).lstrip()
    if not head.startswith(b"["):
        raise UserError(f"{path} is not a list of images, as Visual Genome's {path.name} is")
    offset = len(buffer) - len(head) + 1
    buffer, first = head[1:], True
    while True:
        spans, closed = _spans(buffer)
        done = 0
        for start, end, skeleton in spans:
            if buffer[done:start].strip() != (b"" if first else b","):
                yield Unreadable(
                    _place(path, offset + done), "something that is no JSON object stands between elements"
                )
            first, done = False, end
            yield offset + start, end - start, skeleton
        if closed is not None:
            if buffer[done:closed].strip():
                yield Unreadable(
                    _place(path, offset + done), "something that is no JSON object stands between elements"
                )
            if buffer[closed + 1 :].strip() or file.read(CHUNK).strip():
                yield Unreadable(_place(path, offset + closed + 1), "something follows the end of the list")
            return
        offset, buffer = offset + done, buffer[done:]
        if len(buffer) > LONGEST:
            yield Unreadable(_place(path, offset), "no end of this element is found: the rest of the file is lost")
            return
        more = file.read(CHUNK)
        if not more:
            yield Unreadable(_place(path, offset), "the file breaks off: what follows is lost")
            return
        buffer += more


def _spans(buffer: bytes) -> tuple[list[tuple[int, int, bytes]], int | None]:
    """Whole elements in ``buffer``, which starts between two of them, and where the list ends, if it does."""
    # Escapes are blanked at equal length, so that every quote left opens or closes a string.
    clean = _ESCAPE.sub(b"..", buffer) if b"\\" in buffer else buffer
    marks = np.flatnonzero(np.frombuffer(clean.translate(_MARKS), dtype=np.bool_))
    signs = np.frombuffer(clean, dtype=np.uint8)[marks]
    quotes = signs == ord('"')
    structural = ~quotes & (np.cumsum(quotes, dtype=np.int32) % 2 == 0)
    places, signs = marks[structural], signs[structural]
    # Of the four brackets only the opening ones, 0x5B and 0x7B, have this bit.
    opening = (signs & 0x02) != 0
    depth = 1 + np.cumsum(np.where(opening, 1, -1), dtype=np.int32)  # (brackets,), after each
    ends_of_list = np.flatnonzero(depth == 0)
    closed = None
    if len(ends_of_list):
        closed = int(places[ends_of_list[0]])
        places, opening, depth = (column[: ends_of_list[0]] for column in (places, opening, depth))
    ends = places[~opening & (depth == 1)] + 1
    starts = places[opening & (depth == 2)][: len(ends)]
    inner_starts, inner_ends = places[opening & (depth == 3)], places[~opening & (depth == 2)] + 1
    firsts, lasts = np.searchsorted(inner_starts, starts), np.searchsorted(inner_starts, ends)
    bounds = list(zip(inner_starts.tolist(), inner_ends.tolist(), strict=False))
    return [
        (start, end, _skeleton(buffer, start, end, bounds[first:last]))
        for start, end, first, last in zip(starts.tolist(), ends.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
    ], closed


def _skeleton(buffer: bytes, start: int, end: int, inner: list[tuple[int, int]]) -> bytes:
    pieces = []
    for inner_start, inner_end in inner:
        pieces.append(buffer[start:inner_start])
        start = inner_end
    return b"0".join([*pieces, buffer[start:end]])


def _place(path: Path, offset: int) -> str:
    return f"{path.name}, byte {offset}"
