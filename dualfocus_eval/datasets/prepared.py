"""A prepared benchmark on disk: where it is, how its images are opened, and whether it is whole.

``$DUALFOCUS_DATA/NAME/`` holds ``SPLIT.parquet`` (rows with the hub's columns; ``image`` carries a path and no bytes),
``images/`` (each image once), ``images.sha256`` (as ``sha256sum`` writes it) and ``manifest.json``.
"""

from __future__ import annotations

import base64
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import sha256_of
from dualfocus_eval.datasets.base import Benchmark
from dualfocus_eval.datasets.row_images import referred_image
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.method.images import prepare_picture

__all__ = [
    "FORMAT",
    "IMAGES",
    "IMAGE_SUMS",
    "MANIFEST",
    "VARIABLE",
    "data_root",
    "digest_of",
    "image_of",
    "image_sums",
    "prepared_table",
    "read_manifest",
    "undecoded",
    "verify",
]

VARIABLE = "DUALFOCUS_DATA"
MANIFEST, IMAGES, IMAGE_SUMS = "manifest.json", "images", "images.sha256"
FORMAT = 1
"""Of the folder; another number means that the benchmark has to be prepared again."""


def data_root() -> Path | None:
    """The folder of prepared benchmarks, or None where `VARIABLE` is not set."""
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value).expanduser() if value else None


def image_of(value: Any) -> Image.Image:
    """The RGB image of a row's ``image``: encoded (hub, minis), in base64, a path below the data root (prepared), a
    reference (`image_references`), or decoded.

    As `prepare_picture` has it, wherever it comes from. Raises ``OSError`` for a missing or unreadable file,
    ``UserError`` when the data root is no longer set.
    """
    if isinstance(value, list):
        (value,) = value
    value = referred_image(value)
    picture = prepare_picture(*_stored(value))
    if isinstance(picture, Failure):
        raise OSError(picture.message)
    return picture.pixels


def _stored(value: Any) -> tuple[Image.Image | bytes | Path, str]:
    """What `prepare_picture` opens, and the image's name."""
    if isinstance(value, Image.Image):
        return value, ""
    if isinstance(value, str):
        return _decoded(value), ""
    name = str(value["path"] or "")
    if value["bytes"] is not None:
        return value["bytes"], name
    root = data_root()
    if root is None:
        raise UserError(f"image {name} belongs to prepared data: set {VARIABLE} to their folder")
    return root / name, ""


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content)
    except ValueError as error:
        raise OSError(f"the image is not base64: {error}") from error


def undecoded(dataset: Any) -> Any:
    """``dataset`` with its images as they are stored, for `image_of` to open.

    ``datasets`` decodes with every decoder that Pillow has, fills up truncated files where lmms-eval is imported, and
    fails for a broken EXIF block.
    """
    from datasets import Image as ImageFeature

    # As cast_column does; that rewrites all the data where a row has a list of images.
    dataset = copy.deepcopy(dataset)
    for name, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, ImageFeature):
            inner.decode = False
            dataset.info.features[name] = feature
    return dataset


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished preparation of this version; None where there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT else None


def prepared_table(root: Path, name: str, split: str) -> tuple[Path, int] | None:
    """The table of a split whose preparation has finished, and how many rows it has; None where there is none."""
    manifest = read_manifest(root / name)
    path = root / name / f"{split}.parquet"
    if manifest is None or split not in manifest["splits"] or not path.exists():
        return None
    return path, manifest["splits"][split]["rows"]


def verify(benchmark: Benchmark, root: Path) -> Iterator[str]:
    """What is wrong with the prepared ``benchmark``: nothing, or one line per fault."""
    folder = root / benchmark.name
    manifest = read_manifest(folder)
    if manifest is None:
        yield (
            f"{folder / MANIFEST} is missing or not of this version: "
            f"`dualfocus data prepare {benchmark.name} --source DIR` did not finish, or has to be run again"
        )
        return
    yield from _verify_rows(benchmark, folder, manifest)
    yield from _verify_images(folder, manifest)
    for entry in manifest["left_out"]:
        yield f"{benchmark.name}: left out {entry['where']}: {entry['reason']}"


def _verify_rows(benchmark: Benchmark, folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    for split, found in manifest["splits"].items():
        path = folder / f"{split}.parquet"
        digest = digest_of(path)
        if not digest:
            yield f"{path} is missing or cannot be read"
        elif digest != found["sha256"]:
            yield f"{path} is not the file that was prepared: its SHA-256 differs from the manifest's"
        published = benchmark.counts[split]
        if found["rows"] != published:
            yield f"{benchmark.name}/{split}: {found['rows']} questions, published are {published}"
    if benchmark.images is not None and manifest["images"] != benchmark.images:
        yield f"{benchmark.name}: {manifest['images']} images, published are {benchmark.images}"


def _verify_images(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    sums = folder / IMAGE_SUMS
    if digest_of(sums) != manifest["images_sha256"]:
        yield f"{sums} is missing or not the file that was prepared"
        return
    for digest, name in image_sums(folder):
        path = folder / name
        found = digest_of(path)
        if not found:
            yield f"{path} is missing or cannot be read"
        elif found != digest:
            yield f"{path} is damaged: its SHA-256 differs"


def digest_of(path: Path) -> str:
    """A file's SHA-256; empty where there is none that can be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def image_sums(folder: Path) -> Iterator[tuple[str, str]]:
    """SHA-256 and path within ``folder`` of every image of a preparation."""
    with (folder / IMAGE_SUMS).open(encoding="utf-8") as lines:
        for line in lines:
            digest, name = line.rstrip("\n").split("  ", 1)
            yield digest, name
