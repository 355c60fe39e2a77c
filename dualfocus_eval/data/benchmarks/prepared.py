"""A prepared benchmark on disk: where it is, how its images are opened, and whether it is whole.

``$DUALFOCUS_DATA/NAME/`` holds ``SPLIT.parquet`` (rows with the hub's columns; ``image`` carries a path and no bytes),
``images/`` (each image once), ``images.sha256`` (as ``sha256sum`` writes it) and ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from dualfocus_eval.data.benchmarks.base import Benchmark
from dualfocus_eval.errors import UserError

__all__ = ["IMAGES", "IMAGE_SUMS", "MANIFEST", "VARIABLE", "data_root", "image_of", "sha256_of", "verify"]

VARIABLE = "DUALFOCUS_DATA"
MANIFEST, IMAGES, IMAGE_SUMS = "manifest.json", "images", "images.sha256"


def data_root() -> Path | None:
    """The folder of prepared benchmarks, or None where `VARIABLE` is not set."""
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value).expanduser() if value else None


def image_of(value: Any) -> Image.Image:
    """The RGB image of a row's ``image``: decoded already (hub, minis), or a path below the data root (prepared).

    Raises ``OSError`` for a missing or unreadable file, ``UserError`` when the data root is no longer set.
    """
    if isinstance(value, list):
        (value,) = value
    if isinstance(value, Image.Image):
        return value.convert("RGB")
    root = data_root()
    if root is None:
        raise UserError(f"image {value['path']} belongs to prepared data: set {VARIABLE} to their folder")
    with Image.open(root / value["path"]) as image:
        return image.convert("RGB")


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(benchmark: Benchmark, root: Path) -> Iterator[str]:
    """What is wrong with the prepared ``benchmark``: nothing, or one line per fault."""
    folder = root / benchmark.name
    path = folder / MANIFEST
    if not path.exists():
        yield f"{path} is missing: `dualfocus data prepare {benchmark.name} --source DIR` did not finish"
        return
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"{path} is not JSON ({error}): prepare it again"
        return
    yield from _verify_rows(benchmark, folder, manifest)
    yield from _verify_images(folder, manifest)
    for entry in manifest["left_out"]:
        yield f"{benchmark.name}: left out {entry['where']}: {entry['reason']}"


def _verify_rows(benchmark: Benchmark, folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    for split, found in manifest["splits"].items():
        path = folder / f"{split}.parquet"
        if not path.exists():
            yield f"{path} is missing"
        elif sha256_of(path) != found["sha256"]:
            yield f"{path} is not the file that was prepared: its SHA-256 differs from the manifest's"
        published = benchmark.counts[split]
        if found["rows"] != published:
            yield f"{benchmark.name}/{split}: {found['rows']} questions, published are {published}"
    if benchmark.images is not None and manifest["images"] != benchmark.images:
        yield f"{benchmark.name}: {manifest['images']} images, published are {benchmark.images}"


def _verify_images(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    sums = folder / IMAGE_SUMS
    if not sums.exists() or sha256_of(sums) != manifest["images_sha256"]:
        yield f"{sums} is missing or not the file that was prepared"
        return
    with sums.open(encoding="utf-8") as lines:
        for line in lines:
            digest, name = line.rstrip("\n").split("  ", 1)
            path = folder / name
            if not path.exists():
                yield f"{path} is missing"
            elif sha256_of(path) != digest:
                yield f"{path} is damaged: its SHA-256 differs"
