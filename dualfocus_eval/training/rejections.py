"""Samples that turn out unusable while a stage trains: one file of JSON lines per process in the stage's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dualfocus_eval.datasets.base import Rejected

__all__ = ["note_rejection", "rejected_places", "rejections_file"]


def rejections_file(folder: Path, process: int) -> Path:
    """Where ``process`` notes what it meets."""
    return folder / f"rejected.{process}.jsonl"


def note_rejection(file: Path, sample: Rejected) -> None:
    """Append ``sample``, on a line of its own even after one that was broken off."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps(asdict(sample)))


def rejected_places(folder: Path) -> Sequence[str]:
    """Places of a stage's samples that turned out unusable, each once."""
    lines = [line for path in folder.glob("rejected.*.jsonl") for line in path.read_bytes().splitlines()]
    return sorted({place for line in lines if (place := _place(line)) is not None})


def _place(line: bytes) -> str | None:
    """None for an empty line, and for what a killed process wrote of one: it comes to that sample again."""
    try:
        return str(json.loads(line)["where"])
    except (ValueError, TypeError, KeyError):
        return None
