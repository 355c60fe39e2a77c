"""Where prepared benchmarks lie: the option ``--out`` of ``data prepare`` and ``data verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.prepared import VARIABLE, data_root

__all__ = ["add_root", "chosen_root"]


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument("--out", type=Path, help=f"folder of prepared benchmarks (default: ${VARIABLE})")


def chosen_root(out: Path | None) -> Path:
    """The folder that was given, or that of the environment. Raises ``UserError`` without either."""
    root = out or data_root()
    if root is None:
        raise UserError(f"no folder of prepared benchmarks: set {VARIABLE}, or pass --out")
    return root
