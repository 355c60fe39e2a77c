"""The embedded held-out sets behind the ``_mini`` tasks, as small parquet files."""

from __future__ import annotations

from pathlib import Path

from dualfocus_eval.tiny.sets import detail, gqa, mmbench, pope, scenes, seed, textvqa
from dualfocus_eval.tiny.sets.table import HELD_OUT_SEED

__all__ = ["HELD_OUT_SEED", "write_minis"]

_WRITERS = (scenes.write, pope.write, gqa.write, mmbench.write, seed.write, textvqa.write, detail.write)


def write_minis(tasks: Path) -> list[Path]:
    """Render every set into ``tasks/*/data`` and return the files written."""
    return [path for write in _WRITERS for path in write(tasks)]
