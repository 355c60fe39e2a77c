"""Rows that name their image instead of holding it, so that they can be repeated, and written to logs, without it."""

from __future__ import annotations

from typing import Any

__all__ = ["image_references", "referred_image"]

_PREFIX = "image of row "
_HELD: dict[str, Any] = {}
"""Columns of images by their data set's fingerprint; memory-mapped, so that none is read before it is asked for."""


def image_references(dataset: Any, column: str = "image") -> list[dict[str, Any]]:
    """For every row of a ``datasets.Dataset`` what stands for its image in ``column``, in this process."""
    images = dataset.select_columns([column]).with_format("arrow")
    _HELD[images._fingerprint] = images
    paths = (f"{_PREFIX}{row} of {images._fingerprint}" for row in range(len(images)))
    return [{"bytes": None, "path": path} for path in paths]


def referred_image(value: Any) -> Any:
    """What the row that ``value`` refers to holds, as it is stored; ``value`` itself where it refers to none."""
    if not (isinstance(value, dict) and str(value.get("path")).startswith(_PREFIX)):
        return value
    row, fingerprint = value["path"].removeprefix(_PREFIX).split(" of ")
    (stored,) = _HELD[fingerprint][int(row)].column(0).to_pylist()
    return stored
