"""What a benchmark's release has in common with the others': rows with an image, splits, published counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.common.files import open_regular

__all__ = ["Benchmark", "ImageFile", "Rejected", "Row", "StoredImage"]


@dataclass(frozen=True)
class ImageFile:
    """An image of the release that lies in a file of its own."""

    path: Path
    stored_as: str = ""
    """The name under which it is stored; empty for the file's own."""

    @property
    def name(self) -> str:
        """The name under which it is stored."""
        return self.stored_as or self.path.name

    @property
    def origin(self) -> str:
        """Tells it from another image of the same name."""
        return str(self.path)

    def read(self) -> bytes:
        """The encoded image. Raises ``OSError``."""
        with open_regular(self.path) as file:
            return file.read()


@dataclass(frozen=True)
class StoredImage:
    """An image of the release that lies inside a table."""

    name: str
    content: bytes

    @property
    def origin(self) -> str:
        """Its name, which stands for its content."""
        return self.name

    def read(self) -> bytes:
        """The encoded image."""
        return self.content


@dataclass(frozen=True)
class Row:
    """One question: the hub's columns without the image, and the image itself."""

    split: str
    where: str
    """File and line, or file and question id: what a message about the row names."""
    key: str
    """The question's id, unique within its split."""
    values: Mapping[str, Any]
    image: ImageFile | StoredImage


@dataclass(frozen=True)
class Rejected:
    """What is left out, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """How the official release of a benchmark is read."""

    name: str
    title: str
    counts: Mapping[str, int]
    """Published number of questions per split; the splits are its keys."""
    images: int | None
    """Published number of distinct images over all splits; None where it is not published."""
    columns: Callable[[], Mapping[str, Any]]
    """Columns and their ``datasets`` features as on the hub, ``image`` not among them."""
    files: Callable[[Path], list[Path]]
    """The question files in a source folder. Raises ``UserError`` naming what it looked for when there is none."""
    rows: Callable[[Path], Iterator[Row | Rejected]]
    """Streams a source folder in the release's own order."""
    expects: str
    """What the source folder holds, for help and error messages."""
