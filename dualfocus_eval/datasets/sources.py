"""Reading official files: question files found by name, JSON record by record, images wherever the release put them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import files_below, open_regular
from dualfocus_eval.datasets.base import ImageFile, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError
from dualfocus_eval.method.images import IMAGE_SUFFIXES

__all__ = [
    "ImageFolder",
    "find_file",
    "json_items",
    "json_members",
    "json_records",
    "needed_file",
    "read_row",
    "split_files",
]

CHUNK = 1 << 20
"""Characters read at once of a large JSON file."""
LONGEST_ITEM = 1 << 26
"""Characters: where one entry is longer, a bracket is missing, and the rest of the file is not read into memory."""
_DECODER = json.JSONDecoder()
T = TypeVar("T")


def needed_file(source: Path, what: str, *patterns: str) -> Path:
    """`find_file`, which has to be there. Raises ``UserError`` that says ``what`` the file is."""
    path = find_file(source, *patterns)
    if path is None:
        raise UserError(f"no {patterns[0]} below {source}: this is {what}")
    return path


def split_files(source: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """The files of these ``names`` that are below ``source``, by their splits."""
    files = {split: find_file(source, name) for split, name in names.items()}
    return {split: path for split, path in files.items() if path}


def find_file(source: Path, *patterns: str) -> Path | None:
    """The first file below ``source`` that fits the first of ``patterns`` to fit any; None when none does."""
    files = sorted(files_below(source))
    for pattern in patterns:
        for path in files:
            if fnmatchcase(path.name, pattern) and path.is_file():
                return path
    return None


def read_row(where: str, read: Callable[..., Row | Rejected], *arguments: Any) -> Row | Rejected:
    """``read(where, *arguments)``; a record whose values are of other types than the release's is rejected."""
    try:
        return read(where, *arguments)
    except (MissingImageError, FieldError) as error:
        return Rejected(where, str(error))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        return Rejected(where, f"cannot be read: {type(error).__name__}: {error}")


def json_records(path: Path, key: str | None = None) -> Iterator[tuple[str, dict[str, Any]] | Rejected]:
    """Records of JSON lines, of one JSON list, or of the list under ``key``, each with its place in the file.

    What is no object is rejected. A file that is damaged after its first record, or goes on after its end, gives the
    records before that. Raises ``UserError`` where it is not of that form from the start.
    """
    for entry in _until_damage(path, json_items(path, key) if key or _starts_as_list(path) else _lines(path)):
        if isinstance(entry, Rejected):
            yield entry
        elif isinstance(entry[1], Rejected):
            yield entry[1]
        else:
            yield entry if isinstance(entry[1], dict) else Rejected(entry[0], "is not a JSON object")


def _starts_as_list(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _until_damage(path: Path, entries: Iterator[T]) -> Iterator[T | Rejected]:
    """``entries``, and where they end in a ``UserError`` what that says; one before the first entry is raised."""
    for number in count():
        try:
            entry = next(entries)
        except StopIteration:
            return
        except UserError as error:
            if not number:
                raise
            yield Rejected(f"{path.name}, after entry {number}", f"the rest of the file is left out: {error}")
            return
        yield entry


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with open_regular(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}:{number}"
            if line.strip():
                try:
                    yield where, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    yield where, Rejected(where, f"is not JSON: {error}")


def json_items(path: Path, key: str | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON list, or of the list under ``key`` of a JSON object, each with its place.

    One entry is in memory at a time, however large the file. Raises ``UserError`` where the file is not of that form.
    """
    with _Text(path) as text:
        if key is not None:
            text.enter(key)
        text.expect("[")
        for number in text.numbers("]"):
            yield f"{path.name}, entry {number}", text.value()
        if key is not None:
            text.leave(key)
        text.expect_end()


def json_members(path: Path) -> Iterator[tuple[str, Any] | Rejected]:
    """Names and values of a JSON object, one in memory at a time; damage is treated as by `json_records`."""
    return _until_damage(path, _members(path))


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    with _Text(path) as text:
        text.expect("{")
        for _ in text.numbers("}"):
            yield text.name(), text.value()
        text.expect_end()


class _Text:
    """The text of a JSON file, of which only what is being decoded is in memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._buffer, self._place = path, "", 0
        try:
            self._file = io.TextIOWrapper(open_regular(path), encoding="utf-8-sig")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error

    def __enter__(self) -> _Text:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def expect(self, mark: str) -> None:
        """Pass over ``mark``, which comes next."""
        found = self._next()
        if found != mark:
            raise self._fault(f"expected {mark}, found {found or 'its end'}")
        self._place += 1

    def enter(self, key: str) -> None:
        """Go to the value of ``key`` in the object that comes next."""
        self.expect("{")
        for _ in self.numbers("}"):
            if self.name() == key:
                return
            self.value()
        raise self._fault(f"it has no {key!r}")

    def leave(self, key: str) -> None:
        """Go to the end of the object that was entered."""
        while self._next() == ",":
            self.expect(",")
            if self.name() == key:
                raise self._fault(f"it has {key!r} a second time")
            self.value()
        self.expect("}")

    def expect_end(self) -> None:
        """Raise where the file goes on."""
        if self._next():
            raise self._fault("something follows its end")

    def numbers(self, end: str) -> Iterator[int]:
        """1, 2, ... for every entry that comes before ``end``, passing over the commas."""
        number = 0
        while (mark := self._next()) != end:
            if number:
                self.expect(",")
            elif not mark:
                raise self._fault(f"it ends before {end}")
            number += 1
            yield number
        self._place += 1

    def name(self) -> str:
        """The name of the member that comes next; then comes its value."""
        name = self.value()
        if not isinstance(name, str):
            raise self._fault(f"{name!r} is no member's name")
        self.expect(":")
        return name

    def value(self) -> Any:
        """The value that comes next."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more():
                    raise self._fault(str(error)) from error
                continue
            # What ends with the buffer, or within a number, may go on in the next chunk.
            if self._buffer[end : end + 1] in ("", *".eE+-0123456789") and self._more():
                continue
            self._place = end
            return value

    def _next(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            while self._place < len(self._buffer) and self._buffer[self._place].isspace():
                self._place += 1
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Drop what has been passed and read on; False at the end of the file."""
        self._buffer, self._place = self._buffer[self._place :], 0
        if len(self._buffer) > LONGEST_ITEM:
            raise self._fault("an entry does not end")
        try:
            # As much again as waits already, so that a long entry is not decoded once per chunk.
            chunk = self._file.read(max(CHUNK, len(self._buffer)))
        except (OSError, ValueError) as error:
            raise self._fault(str(error)) from error
        self._buffer += chunk
        return bool(chunk)

    def _fault(self, reason: str) -> UserError:
        return UserError(f"{self._path} is not JSON of the release's form: {reason}")


class MissingImageError(Exception):
    """No image of a name, or more than one."""


class ImageFolder:
    """The images of a source folder, however deep they lie, by path or name, with or without suffix."""

    def __init__(self, source: Path) -> None:
        if not source.is_dir():
            raise UserError(f"--source {source} is not a folder")
        self._source = source
        self._paths: dict[str, list[Path]] = {}
        for path in sorted(files_below(source)):
            # SEED-Bench's images have no suffix.
            if path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and path.is_file()):
                self._paths.setdefault(path.name, []).append(path)
                if path.suffix:
                    self._paths.setdefault(path.stem, []).append(path)

    def find(self, name: str) -> ImageFile:
        """The image that a question calls ``name``: a path below the source folder, or a name within any folder.

        Raises ``MissingImageError`` where there is none, or several that differ.
        """
        last = Path(name).name
        stem = last[: -len(Path(last).suffix)] if Path(last).suffix.lower() in IMAGE_SUFFIXES else last
        paths = self._paths.get(last) or self._paths.get(stem) or []
        named = [path for path in paths if path == self._source / name] or paths
        if not named:
            raise MissingImageError(f"image {name} is not in the source folder")
        if len(named) > 1:
            places = ", ".join(path.relative_to(self._source).as_posix() for path in named[:3])
            raise MissingImageError(f"image {name} may be any of {len(named)} files: {places}")
        return ImageFile(named[0])
