"""What keeping a run's pictures costs, and what an interrupted run leaves of them.

Runs the embedded checkpoint over embedded sets with and without pictures, in turn, each run in a process of its own.
Then kills a run while it writes pictures, and opens each file that it leaves.

    python -m measurements.picture_store [--tasks df_mini] [--repeats 3] [--limit N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dualfocus_eval.common.tables import Number, Table, to_markdown

LIMIT_PERCENT = 3
_SOON = 0.05
"""Seconds between two looks at the folder of a run that is to be killed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; status 1 where pictures cost more than the limit, or a file is not whole or there is none."""
    parser = argparse.ArgumentParser(prog="python -m measurements.picture_store", description=__doc__)
    parser.add_argument("--tasks", default="df_mini", metavar="NAMES")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N", help="questions of each task (default: all)")
    chosen = parser.parse_args(argv)
    command = ["--tasks", chosen.tasks, "--batch_size", "16"]
    command += [] if chosen.limit is None else ["--limit", str(chosen.limit)]
    spent: dict[str, list[float]] = {"off": [], "768": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(chosen.repeats):
            for size in spent if number % 2 else reversed(spent):
                folder = Path(scratch) / size
                shutil.rmtree(folder, ignore_errors=True)
                spent[size].append(_processor_seconds(_run(command, size, folder)))
        pictures = len(list((folder.parent / "768" / "traces" / "images").iterdir()))
        left, broken = _killed(command, Path(scratch) / "killed")
    without, kept = (statistics.median(spent[size]) for size in ("off", "768"))
    added = 100 * (kept - without) / without
    rows = (
        ("runs of each kind", chosen.repeats),
        ("pictures kept", pictures),
        ("processor time without pictures, median s", Number(without)),
        ("with pictures, median s", Number(kept)),
        ("added, %", Number(added, decimals=2)),
        ("pictures that a killed run left", left),
        ("of them damaged", broken),
    )
    print(to_markdown(Table("Pictures", ("what", "value"), (rows,))))
    return int(added > LIMIT_PERCENT or broken > 0 or left == 0)


def _run(command: Sequence[str], size: str, folder: Path) -> subprocess.Popen[bytes]:
    arguments = [*command, "--output_path", str(folder), "--model_args", f"trace_images={size}"]
    return subprocess.Popen(
        [sys.executable, "-m", "dualfocus_eval", "eval", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _processor_seconds(process: subprocess.Popen[bytes]) -> float:
    """Of a run and its threads; the wall's clock tells of whatever else the machine does."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"dualfocus eval ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def _killed(command: Sequence[str], folder: Path) -> tuple[int, int]:
    """How many pictures a run leaves that is killed once it has written some, and how many cannot be opened."""
    process = _run(command, "full", folder)
    images = folder / "traces" / "images"
    while process.poll() is None and len(list(images.glob("*.jpg"))) < 5:
        time.sleep(_SOON)
    process.kill()
    process.wait()
    files = list(images.glob("*.jpg"))
    return len(files), sum(not _is_whole(path) for path in files)


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
