"""HR-Bench (Wang et al., 2025): images of 4K and 8K, each question asked under four cyclic orders of its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.sources import split_files
from dualfocus_eval.datasets.tsv import LETTERS, cell_text, choice_fault, encoded_image, tsv_records

__all__ = ["CATEGORIES", "HR_BENCH", "LETTERS"]

FILES = {"hrbench_4k": "hr_bench_4k.tsv", "hrbench_8k": "hr_bench_8k.tsv"}
CATEGORIES = ("single", "cross")
"""Fine-grained perception of one object, and across several."""
TEXTS = ("question", "answer", "category", *LETTERS, "cycle_category")


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    return {"index": Value("int64"), **dict.fromkeys(TEXTS, Value("string"))}


def _files(source: Path) -> list[Path]:
    files = split_files(source, FILES)
    if not files:
        raise UserError(f"neither {' nor '.join(FILES.values())} below {source}: these are HR-Bench's tables")
    return list(files.values())


def _rows(source: Path) -> Iterator[Row | Rejected]:
    for split, path in split_files(source, FILES).items():
        for where, cells in tsv_records(path, ("index", *TEXTS, "image")):
            yield Rejected(where, cells) if isinstance(cells, str) else _row(split, where, cells)


def _row(split: str, where: str, cells: dict[str, str]) -> Row | Rejected:
    content = cells.pop("image").strip()
    if not (cells["index"].isascii() and cells["index"].isdecimal()):
        return Rejected(where, f"index {cells['index']!r} is no whole number")
    index, fault = int(cells["index"]), choice_fault(cells, answered=True)
    if not fault and cells["category"] not in CATEGORIES:
        fault = f"category {cells['category']!r} is none of {', '.join(CATEGORIES)}"
    if not fault and cell_text(cells["cycle_category"]) is None:
        fault = "has no cycle_category"
    if fault:
        return Rejected(where, f"question {index}: {fault}")
    try:
        image = encoded_image(content)
    except ValueError as error:
        return Rejected(where, f"question {index}: its image is not base64: {error}")
    return Row(split, where, str(index), {"index": index, **{name: cell_text(cells[name]) for name in TEXTS}}, image)


HR_BENCH = Benchmark(
    name="hr-bench",
    title="HR-Bench",
    counts=dict.fromkeys(FILES, 800),
    images=None,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects="hr_bench_4k.tsv or hr_bench_8k.tsv",
)
