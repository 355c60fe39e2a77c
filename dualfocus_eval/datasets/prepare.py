"""From an official release to a prepared benchmark: streamed, idempotent, resumable, and bad rows never lose good ones.

Images are written one by one under temporary names and moved into place, tables are written anew under temporary names,
and the manifest comes last: what a kill leaves behind is either final or not looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import replacing, sha256_of, sole_writer
from dualfocus_eval.datasets.base import Benchmark, ImageFile, Rejected, Row, StoredImage
from dualfocus_eval.datasets.prepared import (
    FORMAT,
    IMAGE_SUMS,
    IMAGES,
    MANIFEST,
    digest_of,
    image_sums,
    read_manifest,
)
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.method.images import prepare_picture

__all__ = ["prepare"]

ROWS_AT_ONCE = 500


def prepare(
    benchmark: Benchmark, source: Path, root: Path, on_row: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Prepare ``benchmark`` from ``source`` under ``root / benchmark.name`` and return its manifest.

    ``on_row`` is called per row read. Nothing is done when the folder is whole and was prepared from the same question
    files. Raises ``UserError`` where the source is not the release, a file cannot be read or written, or another
    process prepares the same folder.
    """
    files = benchmark.files(source)
    try:
        sources = {path.relative_to(source).as_posix(): sha256_of(path) for path in files}
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror or error}") from error
    folder = root / benchmark.name
    manifest = _finished(folder, sources)
    if manifest is not None:
        return manifest
    try:
        with sole_writer(folder):
            return _Preparation(benchmark, folder).run(source, sources, on_row)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: {error.strerror or error}. What was done so far is kept: run again"
        ) from error


def _finished(folder: Path, sources: dict[str, str]) -> dict[str, Any] | None:
    """The manifest of a preparation from the same question files that left nothing out and of which all is there."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["sources"] != sources or manifest["left_out"]:
        return None
    tables = {folder / f"{split}.parquet": found["sha256"] for split, found in manifest["splits"].items()}
    tables[folder / IMAGE_SUMS] = manifest["images_sha256"]
    if any(digest_of(path) != digest for path, digest in tables.items()):
        return None
    return manifest if all((folder / name).is_file() for _, name in image_sums(folder)) else None


class _Preparation:
    def __init__(self, benchmark: Benchmark, folder: Path) -> None:
        self.benchmark, self.folder = benchmark, folder
        self.images: dict[str, _Image] = {}
        """By name, whether it can be used or not."""
        self.left_out: list[Rejected] = []
        self.seen: set[tuple[str, str]] = set()

    def run(self, source: Path, sources: dict[str, str], on_row: Callable[[], object]) -> dict[str, Any]:
        (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        for partial in self.folder.rglob("*.partial"):
            partial.unlink()
        tables = {split: _Table(self.folder / f"{split}.parquet", self.benchmark) for split in self.benchmark.counts}
        try:
            for row in self.benchmark.rows(source):
                on_row()
                fault = row.reason if isinstance(row, Rejected) else self._fault(row) or self._add(row, tables)
                if fault:
                    self.left_out.append(Rejected(row.where, fault))
        finally:
            for table in tables.values():
                table.close()
        used = {split: table for split, table in tables.items() if table.rows}
        if not used:
            raise UserError(_nothing(self.benchmark, source, self.left_out))
        return self._finish(used, sources)

    def _fault(self, row: Row) -> str:
        """Why ``row`` cannot be used; empty when it can."""
        identity = (row.split, row.key)
        if identity in self.seen:
            return f"question id {row.key} occurs a second time"
        self.seen.add(identity)
        name = row.image.name
        if name not in self.images:
            self.images[name] = self._store(row.image)
        if self.images[name].origin != row.image.origin:
            return f"image {row.image.origin} has the name of {self.images[name].origin}"
        return self.images[name].fault

    def _add(self, row: Row, tables: Mapping[str, _Table]) -> str:
        """Add ``row`` to its table; what is wrong with it where that does not take it."""
        path = f"{self.benchmark.name}/{IMAGES}/{row.image.name}"
        try:
            tables[row.split].add({**row.values, "image": {"bytes": None, "path": path}})
        except (ValueError, TypeError, OverflowError) as error:
            return f"does not fit the table: {error}"
        return ""

    def _store(self, image: ImageFile | StoredImage) -> _Image:
        """Write the image unless it is there already."""
        target = self.folder / IMAGES / image.name
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in image.name):
            fault = f"image {image.name!r}: a name with control characters or that is not UTF-8: rename the file"
            return _Image(image.origin, fault=fault)
        try:
            content = image.read()
        except OSError as error:
            return _Image(image.origin, fault=f"image {image.name} cannot be read: {error.strerror or error}")
        picture = prepare_picture(content, image.name)
        if isinstance(picture, Failure):
            return _Image(image.origin, fault=f"image {picture.message}")
        digest = hashlib.sha256(content).hexdigest()
        if digest_of(target) != digest:
            self._invalidate()
            _write(target, content)
        return _Image(image.origin, digest)

    def _invalidate(self) -> None:
        """What is prepared here is about to change: until the end it counts as unfinished."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def _finish(self, tables: dict[str, _Table], sources: dict[str, str]) -> dict[str, Any]:
        self._invalidate()
        for split in self.benchmark.counts.keys() - tables.keys():
            (self.folder / f"{split}.parquet").unlink(missing_ok=True)
        for table in tables.values():
            table.publish()
        kept = sorted((name, image.digest) for name, image in self.images.items() if not image.fault)
        _write(self.folder / IMAGE_SUMS, "".join(f"{digest}  {IMAGES}/{name}\n" for name, digest in kept).encode())
        manifest = {
            "format": FORMAT,
            "benchmark": self.benchmark.name,
            "sources": sources,
            "splits": {split: {"rows": table.rows, "sha256": sha256_of(table.path)} for split, table in tables.items()},
            "images": len(kept),
            "images_sha256": sha256_of(self.folder / IMAGE_SUMS),
            "left_out": [asdict(entry) for entry in self.left_out],
        }
        _write(self.folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        return manifest


@dataclass(frozen=True)
class _Image:
    origin: str
    digest: str = ""
    fault: str = ""
    """Why it cannot be used."""


class _Table:
    """One split's parquet file, written in groups of rows under a temporary name."""

    def __init__(self, path: Path, benchmark: Benchmark) -> None:
        import pyarrow.parquet as pq
        from datasets import Features
        from datasets import Image as ImageFeature

        self.path, self.rows = path, 0
        self.partial = path.with_suffix(".parquet.partial")
        features = Features({**benchmark.columns(), "image": ImageFeature(decode=False)})
        self.schema = features.arrow_schema
        # Opened here: pyarrow opens no path that is not UTF-8.
        self.file = self.partial.open("wb")
        self.writer = pq.ParquetWriter(self.file, self.schema, compression="zstd")
        self.buffer: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
        """Raises ``ValueError``, ``TypeError`` or ``OverflowError`` for values that the columns cannot hold."""
        import pyarrow as pa

        pa.array([values], type=pa.struct(self.schema))  # a table of many would not say which row it refuses
        self.buffer.append(values)
        self.rows += 1
        if len(self.buffer) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.buffer:
            self.writer.write_table(pa.Table.from_pylist(self.buffer, schema=self.schema))
            self.buffer = []

    def close(self) -> None:
        self._flush()
        self.writer.close()
        self.file.close()
        if not self.rows:
            self.partial.unlink()

    def publish(self) -> None:
        os.replace(self.partial, self.path)


def _write(target: Path, content: bytes) -> None:
    with replacing(target) as partial:
        partial.write_bytes(content)


def _nothing(benchmark: Benchmark, source: Path, left_out: list[Rejected]) -> str:
    first = f"; the first of {len(left_out)} faults: {left_out[0].where}: {left_out[0].reason}" if left_out else ""
    return f"{source} has no usable question of {benchmark.title}: expected {benchmark.expects}{first}"
