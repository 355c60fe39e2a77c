"""Tables of tab-separated values in which every row holds its image as base64, as MMBench's and HR-Bench's are."""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dualfocus_eval.datasets.base import StoredImage

__all__ = ["LETTERS", "cell_text", "choice_fault", "encoded_image", "tsv_records"]

LETTERS = "ABCD"
SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}
LONGEST_CELL = 2**26
"""Characters. An image of 8K has some ten million; a quotation mark left open would take the rest of the file."""


def tsv_records(
    path: Path, needed: Sequence[str], column: Callable[[str], str] = str
) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Place and cells by column of every line, or what is wrong with it; ``column`` gives a header's name its column.

    A table without one of the ``needed`` columns is one faulty line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    # Bytes that are not UTF-8 become lone surrogates, so that only their row is lost.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        header = [column(name) for name in next(reader, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            yield f"{path.name}:1", f"lacks the columns {', '.join(missing)}"
            return
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield f"{path.name}:{reader.line_num}", f"cannot be read: {error}"
                continue
            if cells is None:
                return
            if not cells:
                continue
            where = f"{path.name}:{reader.line_num}"
            if len(cells) != len(header):
                yield where, f"has {len(cells)} columns, not {len(header)}"
            else:
                yield where, dict(zip(header, cells, strict=True))


def cell_text(cell: str | None) -> str | None:
    """A cell as it is; None for an empty one, as which tables written by pandas may say ``nan``."""
    return None if cell is None or cell.strip() in ("", "nan") else cell


def encoded_image(content: str) -> StoredImage:
    """The image in a cell, named by its content. Raises ``ValueError``."""
    if not content:
        raise ValueError("the cell is empty")
    image = base64.b64decode("".join(content.split()), validate=True)
    suffix = next((suffix for start, suffix in SIGNATURES.items() if image.startswith(start)), "")
    return StoredImage(hashlib.sha256(image).hexdigest()[:20] + suffix, image)


def choice_fault(cells: Mapping[str, str], *, answered: bool) -> str:
    """What is wrong with the texts of a multiple-choice question: empty when nothing is."""
    try:
        "".join(cells.values()).encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not cell_text(cells["question"]):
        return "has no question"
    letters = "".join(letter for letter in LETTERS if cell_text(cells[letter]))
    if len(letters) < 2 or not LETTERS.startswith(letters):
        return f"has texts for the options {', '.join(letters) or 'none'}: must be the first two or more"
    answer = (cells.get("answer") or "").strip()
    if answered and answer not in tuple(letters):
        return f"answer {answer!r} is none of {', '.join(letters)}"
    return ""
