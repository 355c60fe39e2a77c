"""From an official release to a prepared benchmark: streamed, idempotent, resumable, and bad rows never lose good ones.

Images are written one by one under temporary names and moved into place, tables are written anew under temporary names,
and the manifest comes last: what a kill leaves behind is either final or not looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from dualfocus_eval.data.benchmarks.base import Benchmark, ImageFile, Rejected, Row, StoredImage
from dualfocus_eval.data.benchmarks.prepared import IMAGE_SUMS, IMAGES, MANIFEST, sha256_of
from dualfocus_eval.errors import UserError

__all__ = ["prepare"]

ROWS_AT_ONCE = 500


def prepare(
    benchmark: Benchmark, source: Path, root: Path, on_row: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Prepare ``benchmark`` from ``source`` under ``root / benchmark.name`` and return its manifest.

    ``on_row`` is called per row read. Nothing is done when the folder is already prepared from the same question
    files. Raises ``UserError`` where the source is not the release, or a file cannot be written.
    """
    files = benchmark.files(source)
    sources = {path.relative_to(source).as_posix(): sha256_of(path) for path in files}
    folder = root / benchmark.name
    manifest = _finished(folder, sources)
    if manifest is not None:
        return manifest
    try:
        return _Preparation(benchmark, folder).run(source, sources, on_row)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error}. What was done so far is kept: run again") from error


def _finished(folder: Path, sources: dict[str, str]) -> dict[str, Any] | None:
    """The manifest of a preparation from the same question files that left nothing out and whose tables are there."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = all((folder / f"{split}.parquet").exists() for split in manifest["splits"])
    return manifest if whole and manifest["sources"] == sources and not manifest["left_out"] else None


class _Preparation:
    def __init__(self, benchmark: Benchmark, folder: Path) -> None:
        self.benchmark, self.folder = benchmark, folder
        self.images: dict[str, str | None] = {}
        """Digest of every image met; None for one that cannot be used."""
        self.reasons: dict[str, str] = {}
        self.left_out: list[Rejected] = []
        self.seen: set[tuple[str, str]] = set()

    def run(self, source: Path, sources: dict[str, str], on_row: Callable[[], object]) -> dict[str, Any]:
        (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for partial in self.folder.rglob("*.partial"):
            partial.unlink()
        tables = {split: _Table(self.folder / f"{split}.parquet", self.benchmark) for split in self.benchmark.counts}
        try:
            for row in self.benchmark.rows(source):
                on_row()
                if isinstance(row, Rejected):
                    self.left_out.append(row)
                elif self._usable(row):
                    path = f"{self.benchmark.name}/{IMAGES}/{row.image.name}"
                    tables[row.split].add({**row.values, "image": {"bytes": None, "path": path}})
        finally:
            for table in tables.values():
                table.close()
        used = {split: table for split, table in tables.items() if table.rows}
        if not used:
            raise UserError(_nothing(self.benchmark, source, self.left_out))
        return self._finish(used, sources)

    def _usable(self, row: Row) -> bool:
        identity = (row.split, row.key)
        if identity in self.seen:
            self.left_out.append(Rejected(row.where, f"question id {row.key} occurs a second time"))
            return False
        self.seen.add(identity)
        name = row.image.name
        if name not in self.images:
            self.images[name] = self._store(row.image)
        if self.images[name] is None:
            self.left_out.append(Rejected(row.where, self.reasons[name]))
            return False
        return True

    def _store(self, image: ImageFile | StoredImage) -> str | None:
        """Write the image unless it is there already; its digest, or None with the reason noted."""
        target = self.folder / IMAGES / image.name
        try:
            content = image.read()
        except OSError as error:
            self.reasons[image.name] = f"image {image.name} cannot be read: {error.strerror or error}"
            return None
        fault = _fault(content)
        if fault:
            self.reasons[image.name] = f"image {image.name} is {fault}"
            return None
        digest = hashlib.sha256(content).hexdigest()
        if not target.exists() or sha256_of(target) != digest:
            _write(target, content)
        return digest

    def _finish(self, tables: dict[str, _Table], sources: dict[str, str]) -> dict[str, Any]:
        for table in tables.values():
            table.publish()
        kept = sorted((name, digest) for name, digest in self.images.items() if digest)
        _write(self.folder / IMAGE_SUMS, "".join(f"{digest}  {IMAGES}/{name}\n" for name, digest in kept).encode())
        manifest = {
            "benchmark": self.benchmark.name,
            "sources": sources,
            "splits": {split: {"rows": table.rows, "sha256": sha256_of(table.path)} for split, table in tables.items()},
            "images": len(kept),
            "images_sha256": sha256_of(self.folder / IMAGE_SUMS),
            "left_out": [asdict(entry) for entry in self.left_out],
        }
        _write(self.folder / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
        return manifest


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
        self.writer = pq.ParquetWriter(self.partial, self.schema, compression="zstd")
        self.buffer: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
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
        if not self.rows:
            self.partial.unlink()

    def publish(self) -> None:
        os.replace(self.partial, self.path)


def _fault(content: bytes) -> str:
    """What is wrong with an encoded image: empty when it decodes to its last row."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        return "no image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"truncated or damaged: {error}"
    return ""


def _write(target: Path, content: bytes) -> None:
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, target)


def _nothing(benchmark: Benchmark, source: Path, left_out: list[Rejected]) -> str:
    first = f"; the first of {len(left_out)} faults: {left_out[0].where}: {left_out[0].reason}" if left_out else ""
    return f"{source} has no usable question of {benchmark.title}: expected {benchmark.expects}{first}"
