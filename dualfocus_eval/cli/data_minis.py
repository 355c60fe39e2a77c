"""``dualfocus data minis``: the embedded sets of the _mini tasks, bit for bit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.resources import resource_folder

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Write every set and name it; 0. Raises ``UserError`` for a folder that cannot be written."""
    parser = argparse.ArgumentParser(
        prog="dualfocus data minis", description="Regenerate the embedded sets of the _mini tasks, bit for bit."
    )
    parser.add_argument("--out", type=Path, help="tasks folder to write to (default: the package's)")
    folder: Path = parser.parse_args(argv).out or resource_folder("tasks")
    from dualfocus_eval.tiny.sets import write_minis

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror or error}") from error
    for path in write_minis(folder):
        print(one_line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)"))
    return 0
