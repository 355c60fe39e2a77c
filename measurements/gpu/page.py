"""docs/gpu.md, made from what was measured."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dualfocus_eval.common.escaping import markdown
from dualfocus_eval.common.tables import Cell, Number, Table, cell_text, fill_page, to_markdown
from measurements.gpu.rows import Agreement, Exactness, Findings, Missing, Phase, Row, Timing
from measurements.performance_page import SINGLE, machine

__all__ = ["PAGE", "block", "line_of", "write_page"]

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"


@dataclass(frozen=True)
class Part:
    """One kind of row as a table."""

    heading: str
    header: tuple[str, ...]
    cells: Callable[[Any, Findings], tuple[Cell, ...]]


def _exactness(row: Exactness, _: Findings) -> tuple[Cell, ...]:
    found = (row.rows, row.tokens, f"{row.difference:.1e}", row.parted, row.differing)
    return (row.model, *found, "yes" if row.holds else "**no**")


def _timing(row: Timing, findings: Findings) -> tuple[Cell, ...]:
    single = next((other for other in findings.of(Timing) if _is_single(other, row)), None)
    ratio = Number(row.seconds / single.seconds, decimals=2) if isinstance(single, Timing) else None
    cache = None if row.cache is None else Number(row.cache, decimals=0)
    peak = None if row.peak is None else Number(row.peak)
    seconds = Number(row.seconds, decimals=3)
    place = (row.model, row.system, row.per_image, row.batch, cache, row.questions)
    return (*place, seconds, ratio, peak, _percent(row.reused))


def _is_single(other: Row, row: Timing) -> bool:
    """Whether ``other`` is the single pass to compare ``row`` with."""
    same = isinstance(other, Timing) and (other.model, other.per_image) == (row.model, row.per_image)
    return same and other.system == SINGLE


def _agreement(row: Agreement, _: Findings) -> tuple[Cell, ...]:
    share = _percent(row.differing / row.answers)
    return (row.model, row.dtype, row.setting, row.answers, row.differing, share, row.failed)


def _phase(row: Phase, _: Findings) -> tuple[Cell, ...]:
    seconds = Number(row.seconds * 1000, decimals=1)
    return (row.model, row.batch, row.phase, seconds, _percent(row.share), _percent(row.outside))


PARTS: dict[type[Row], Part] = {
    Exactness: Part(
        "Exactness in float32",
        ("model", "rows", "tokens", "largest difference", "parted", "differing", "holds"),
        _exactness,
    ),
    Timing: Part(
        "Time and memory",
        (
            "model",
            "system",
            "questions per image",
            "batch",
            "prefix cache GiB",
            "questions",
            "s per question",
            "÷ llava_hf",
            "peak GiB",
            "reused %",
        ),
        _timing,
    ),
    Agreement: Part(
        "Agreement in half precision",
        ("model", "dtype", "setting", "answers", "differing", "differing %", "failed"),
        _agreement,
    ),
    Phase: Part(
        "Time per phase",
        ("model", "batch", "phase", "ms per question", "share %", "outside the model %"),
        _phase,
    ),
}
"""By kind of row, in the order of the page."""


def block(findings: Findings, device: str) -> str:
    """What the page's generated place holds: the machine and one table per kind of row."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lmms-eval"))
    lines = [f"Measured on {_card(device)}, with {versions}, Python {platform.python_version()}."]
    for kind, part in PARTS.items():
        rows = tuple(part.cells(row, findings) for row in findings.of(kind))
        missing = tuple(_blank(missing, part) for missing in findings.missing if missing.kind is kind)
        sections = tuple(filter(None, (rows, missing)))
        table = to_markdown(Table("", part.header, sections)) if sections else "Nothing was measured."
        lines += [f"## {part.heading}", table]
    return "\n\n".join(lines)


def line_of(row: Row, findings: Findings) -> str:
    """One row as a line for the terminal."""
    part = PARTS[type(row)]
    return f"{part.heading}: " + ", ".join(cell_text(cell) or "-" for cell in part.cells(row, findings))


def write_page(text: str, folder: Path) -> Path:
    """Put ``text`` into the generated place of docs/gpu.md, or of a copy of the page in another ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE.name
    if page.resolve() != PAGE.resolve():
        shutil.copyfile(PAGE, page)
    fill_page(page, {"gpu": text})
    return page


def _blank(missing: Missing, part: Part) -> tuple[Cell, ...]:
    return (missing.step, f"{'failed' if missing.failed else 'not measured'}: {missing.reason}", *_empty(part))


def _empty(part: Part) -> Sequence[Cell]:
    return [None] * (len(part.header) - 2)


def _card(device: str) -> str:
    if not device.startswith("cuda"):
        return markdown(machine())
    properties = torch.cuda.get_device_properties(device)
    memory = properties.total_memory / 2**30
    return markdown(f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")


def _percent(share: float | None) -> Number | None:
    return None if share is None else Number(100 * share, decimals=1)
