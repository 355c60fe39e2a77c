"""Time and peak memory of ``dualfocus data vg`` on a made-up Visual Genome (``measurements/visual_genome.py``).

    python -m measurements.curation --share 0.1     # a tenth of the release: 10,808 images
    python -m measurements.curation --write         # the whole, and the table of docs/training.md

The command runs as a user runs it, in processes of its own. Memory is the sum of the resident sets of all of them,
sampled ten times a second; pages that they share count once per process, so the true figure is lower. On a machine
that others use as well, processor time tells what a free one would take: about half of it on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dualfocus_eval.common.tables import fill_page
from measurements.visual_genome import IMAGES, write_release

SECONDS, GIGABYTES = 180, 6.0
"""What a full release may take on two cores."""
PAGE = Path(__file__).parent.parent / "docs" / "training.md"


def measure(source: Path, out: Path, workers: int) -> tuple[float, float, float]:
    """(wall time and processor time in seconds, peak memory in GB) of a run. Raises ``CalledProcessError``."""
    command = [sys.executable, "-m", "dualfocus_eval", "data", "vg", "--source", str(source), "--out", str(out)]
    start, used, peak = time.perf_counter(), _used(), 0
    with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, _used() - used, peak / 1e9


def _used() -> float:
    """Processor seconds of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _resident(pid: int) -> int:
    """Bytes that a process and all below it hold in memory."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(_resident, children))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the release's images (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write several GB (default: the system's, then deleted)")
    parser.add_argument("--write", action="store_true", help=f"write the table of {PAGE.name}")
    options = parser.parse_args()
    images = max(1, round(IMAGES * options.share))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, out = Path(folder) / "release", Path(folder) / "out"
        start = time.perf_counter()
        questions = write_release(source, images)
        print(f"written in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        size = sum(path.stat().st_size for path in source.iterdir()) / 1e9
        seconds, busy, peak = measure(source, out, options.workers)
    lines = [
        "| images | questions | JSON | processes | time | processor time | peak memory |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        f"| {images:,} | {questions:,} | {size:.2f} GB | {options.workers} | {seconds:.0f} s | {busy:.0f} s "
        f"| {peak:.2f} GB |",
    ]
    print("\n".join(lines))
    if options.write:
        fill_page(PAGE, {"curation speed": "\n".join(lines)})
    sound = seconds <= SECONDS * min(1.0, options.share) + 5 and peak <= GIGABYTES
    print("holds" if sound else "DOES NOT HOLD")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
