"""MMBench (Liu et al., 2023), English: a table per split, with a row per rotation of a question's options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Benchmark, Rejected, Row, StoredImage
from dualfocus_eval.datasets.sources import split_files
from dualfocus_eval.datasets.tsv import LETTERS, cell_text, choice_fault, encoded_image, tsv_records

__all__ = ["LETTERS", "MMBENCH_EN", "ROTATION"]

FILES = {
    "dev": "mmbench_dev_20230712.tsv",
    "test": "mmbench_test_20230712.tsv",
}
ROTATION = 1_000_000
"""A row's index is its question's plus this for every step by which the options are rotated."""
TEXTS = (
    "question", "hint", "answer", *LETTERS, "category", "source", "l2-category", "comment", "split",
)  # fmt: skip
REQUIRED = ("index", "question", *LETTERS, "category", "l2-category", "image")
LONGEST_REFERENCE = 18
"""Digits."""


@dataclass
class _Images:
    """Which rows hold an image, and which wait for that of a later row. No image's content is kept."""

    names: dict[int, str]
    """By row index, of images that can be referred to."""
    waiting: dict[int, list[Row]]
    """By the index of the row referred to."""


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    return {"index": Value("int64"), **dict.fromkeys(TEXTS, Value("string"))}


def _files(source: Path) -> list[Path]:
    files = split_files(source, FILES)
    if not files:
        names = " nor ".join(FILES.values())
        raise UserError(f"neither {names} below {source}: these are MMBench's tables")
    return list(files.values())


def _rows(source: Path) -> Iterator[Row | Rejected]:
    for split, path in split_files(source, FILES).items():
        images = _Images({}, {})
        for where, cells in _records(split, path):
            if isinstance(cells, str):
                yield Rejected(where, cells)
                continue
            row = _row(split, where, cells, images)
            if row is None:
                continue
            yield row
            if isinstance(row, Row):
                for later in images.waiting.pop(int(row.key), ()):
                    yield _with_image(later, row.image.name)
        for index, rows in images.waiting.items():
            for row in rows:
                yield Rejected(row.where, f"question {row.key}: takes its image from row {index}, which gives none")


def _records(split: str, path: Path) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Place and cells by column of every line, or what is wrong with it."""
    needed = (*REQUIRED, *(["answer"] if split == "dev" else []))
    # The column's name differs between releases: l2-category, L2-category.
    return tsv_records(path, needed, lambda name: "l2-category" if name.lower() == "l2-category" else name)


def _row(split: str, where: str, cells: dict[str, str], images: _Images) -> Row | Rejected | None:
    """The row; None where it waits for the image of a later one."""
    content = cells.pop("image").strip()
    try:
        index = int(cells["index"])
    except ValueError:
        return Rejected(where, f"index {cells['index']!r} is no whole number")
    fault = choice_fault(cells, answered=split == "dev")
    if fault:
        return Rejected(where, f"question {index}: {fault}")
    values: dict[str, Any] = {name: cell_text(cells.get(name)) for name in TEXTS}
    values["index"] = index
    if content.isdecimal() and len(content) <= LONGEST_REFERENCE:
        return _referring(Row(split, where, str(index), values, StoredImage("", b"")), int(content), images)
    try:
        image = encoded_image(content)
    except ValueError as error:
        return Rejected(where, f"question {index}: its image is not base64: {error}")
    images.names.setdefault(index, image.name)
    return Row(split, where, str(index), values, image)


def _referring(row: Row, index: int, images: _Images) -> Row | None:
    """``row`` with the image of row ``index``, as in tables that hold each image once; None where that is not known."""
    if index in images.names:
        return _with_image(row, images.names[index])
    images.waiting.setdefault(index, []).append(row)
    return None


def _with_image(row: Row, name: str) -> Row:
    """``row`` with an image met before: it is stored by its name, and its content is not looked at again."""
    return replace(row, image=StoredImage(name, b""))


MMBENCH_EN = Benchmark(
    name="mmbench-en",
    title="MMBench, English, 20230712",
    counts={"dev": 4377, "test": 6718},
    images=None,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects="mmbench_dev_20230712.tsv or mmbench_test_20230712.tsv",
)
