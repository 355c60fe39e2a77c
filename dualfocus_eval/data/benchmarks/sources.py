"""Reading official files: question files found by name, JSON of either layout, images wherever the release put them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.data.benchmarks.base import ImageFile, Rejected
from dualfocus_eval.errors import UserError

__all__ = ["ImageFolder", "find_file", "json_records"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def find_file(source: Path, *patterns: str) -> Path | None:
    """The first file below ``source`` that fits the first of ``patterns`` to fit any; None when none does."""
    for pattern in patterns:
        for path in sorted(source.rglob(pattern)):
            if path.is_file():
                return path
    return None


def json_records(path: Path) -> Iterator[tuple[str, dict[str, Any]] | Rejected]:
    """Records of JSON lines, or of one JSON list, each with ``file:number``; what is no object is rejected."""
    with path.open(encoding="utf-8") as file:
        is_list = file.read(64).lstrip().startswith("[")
        file.seek(0)
        if is_list:
            yield from _list_records(path, file.read())
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                yield Rejected(where, f"is not JSON: {error}")
                continue
            yield (where, record) if isinstance(record, dict) else Rejected(where, "is not a JSON object")


def _list_records(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]] | Rejected]:
    try:
        records = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    for number, record in enumerate(records, 1):
        where = f"{path.name}, entry {number}"
        yield (where, record) if isinstance(record, dict) else Rejected(where, "is not a JSON object")


class ImageFolder:
    """The images of a source folder by file name, with or without suffix, however deep they lie."""

    def __init__(self, source: Path) -> None:
        if not source.is_dir():
            raise UserError(f"--source {source} is not a folder")
        self._paths: dict[str, Path] = {}
        for path in sorted(source.rglob("*")):
            # SEED-Bench's images have no suffix.
            if path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and path.is_file()):
                self._paths.setdefault(path.name, path)
                self._paths.setdefault(path.stem, path)

    def find(self, name: str) -> ImageFile | None:
        """The image called ``name``, whose folders and suffix do not matter."""
        path = self._paths.get(name) or self._paths.get(Path(name).name) or self._paths.get(Path(name).stem)
        return ImageFile(path) if path else None
