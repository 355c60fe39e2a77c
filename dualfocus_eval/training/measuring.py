"""How long each sample of a source is, and which cannot be used."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from dualfocus_eval.common.processes import usable_processors
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.method.images import image_head
from dualfocus_eval.training.encoding import IGNORED, encode
from dualfocus_eval.training.records import Record

__all__ = ["AT_ONCE", "ImageFiles", "Measured", "is_readable", "measured_rows"]

AT_ONCE = 256
"""Samples that a process measures at a time."""
ALONE = 4096
"""Up to so many samples, starting other processes costs more than it saves."""


@dataclass(frozen=True)
class ImageFiles:
    """Where a source's images are."""

    images: Path
    sub_images: Path

    def paths(self, record: Record) -> list[Path]:
        """The record's images, in order."""
        whole = [self.images / name for name in record.images]
        return whole if record.sub_image is None else [*whole, self.sub_images / record.sub_image]


@dataclass(frozen=True)
class _Unreadable(Rejected):
    """A sample that is left out for the state of a file, which may change."""

    image: str


Measured = tuple[str, int, int, int] | Rejected
"""A row of the table."""


def measured_rows(rows: Iterator[Record | Rejected], files: ImageFiles, processor: Any) -> Iterator[Measured]:
    """Each of ``rows`` measured, in their order, by as many processes as there are processors where that pays."""
    worker = _Worker(files, processor)
    for row in islice(rows, ALONE):
        yield worker.measured(row)
    blocks = iter(lambda: list(islice(rows, AT_ONCE)), [])
    waiting: deque[Future[list[Measured]]] = deque()
    first = next(blocks, None)
    if first is None:
        return
    # Spawned: a fork would copy the threads of whoever calls this in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_processors(), context, initializer=_start, initargs=(files, processor)) as pool:
        waiting.append(pool.submit(_run, first))
        for block in blocks:
            waiting.append(pool.submit(_run, block))
            if len(waiting) > 3 * usable_processors():
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


class _Worker:
    def __init__(self, files: ImageFiles, processor: Any) -> None:
        self.files, self.processor = files, processor
        self.tokens: dict[tuple[int, int], int] = {}

    def measured(self, row: Record | Rejected) -> Measured:
        if isinstance(row, Rejected):
            return row
        try:
            tokens = [self._tokens(_size(path)) for path in self.files.paths(row)]
            encoded = encode(self.processor, row, tokens)
        except _ImageError as error:
            return _Unreadable(row.place, str(error), str(error.path))
        except ValueError as error:
            return Rejected(row.place, str(error))
        targets = int((encoded.labels != IGNORED).sum())
        return json.dumps(asdict(row)), len(encoded.labels), targets, int(encoded.grounding.sum())

    def _tokens(self, size: tuple[int, int]) -> int:
        """How many tokens an image of ``size`` takes; any image will do to find out."""
        if size not in self.tokens:
            self.tokens[size] = image_inputs(self.processor, Image.new("RGB", size)).tokens
        return self.tokens[size]


class _ImageError(ValueError):
    def __init__(self, path: Path, reason: str) -> None:
        name = str(path)
        super().__init__(f"image {name if name.isprintable() else repr(name)} {reason}")
        self.path = path


def is_readable(path: Path) -> bool:
    """Whether the file is an image whose size can be read."""
    try:
        _size(path)
    except _ImageError:
        return False
    return True


def _size(path: Path) -> tuple[int, int]:
    """Width and height as shown, from the file's head. Raises `_ImageError` where it is missing or no image."""
    head = image_head(path)
    if isinstance(head, Failure):
        reason = head.message.removeprefix(f"{path}: ")
        raise _ImageError(path, f"is no readable image: {reason}" if os.path.exists(path) else "is missing")
    return head.size


_worker: _Worker


def _start(files: ImageFiles, processor: Any) -> None:
    global _worker
    _worker = _Worker(files, processor)


def _run(rows: Sequence[Record | Rejected]) -> list[Measured]:
    return [_worker.measured(row) for row in rows]
