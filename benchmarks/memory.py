"""Peak memory of preparing a benchmark and of iterating it, at one size and at twice that: it must not grow with it.

    python -m benchmarks.memory            # 2,000 and 4,000 images
    python -m benchmarks.memory --write    # and docs/memory.md

A release of POPE's layout is written with pictures of random pixels, six questions each. Every figure is the largest
resident set of a process of its own, as the operating system counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from dualfocus_eval.data.benchmarks.prepared import VARIABLE

QUESTIONS, SIDE = 6, 256
ALLOWED_GROWTH = 0.10
TABLE = Path(__file__).parent.parent / "docs" / "memory.md"

_PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
_PREPARE = """
import sys, pathlib
from dualfocus_eval.data.benchmarks import BENCHMARKS
from dualfocus_eval.data.benchmarks.prepare import prepare
prepare(BENCHMARKS["pope"], pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
_ITERATE = """
import sys
from datasets import load_dataset
from dualfocus_eval.data.benchmarks.prepared import image_of
rows = load_dataset("parquet", data_files=sys.argv[2] + "/pope/random.parquet", split="train", cache_dir=sys.argv[3])
print(sum(image_of(row["image"]).width for row in rows), file=sys.stderr)
"""
STEPS = {"prepare": _PREPARE, "iterate": _ITERATE}


def write_release(folder: Path, images: int) -> None:
    """A release of POPE's layout whose images do not compress."""
    folder.mkdir(parents=True)
    rng = random.Random(images)
    for number in range(images):
        pixels = Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(SIDE * SIDE * 3))
        pixels.save(folder / f"{number:06}.jpg", quality=90)
    for split in ("random", "popular", "adversarial"):
        with (folder / f"coco_pope_{split}.json").open("w", encoding="utf-8") as file:
            for number in range(images * QUESTIONS // 3):
                image, label = f"{number % images:06}.jpg", ("yes", "no")[number // images % 2]
                text = f"Is there a thing of kind {number} in the image?"
                file.write(json.dumps({"question_id": number, "image": image, "text": text, "label": label}) + "\n")


def peak(step: str, folder: Path) -> int:
    """Largest resident set of one step in a process of its own, in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS[step] + _PEAK, folder / "release", folder / "root", folder / "cache"],
        env=os.environ | {VARIABLE: str(folder / "root")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="the smaller number (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    options = parser.parse_args()
    peaks: dict[str, list[int]] = {step: [] for step in STEPS}
    for images in (options.images, 2 * options.images):
        with tempfile.TemporaryDirectory() as folder:
            write_release(Path(folder) / "release", images)
            for step, found in peaks.items():
                found.append(peak(step, Path(folder)))
    lines = [
        f"| step | {options.images:,} images | {2 * options.images:,} images | growth |",
        "|---|---|---|---|",
        *(
            f"| {step} | {small / 1024:.0f} MiB | {large / 1024:.0f} MiB | {large / small - 1:+.1%} |"
            for step, (small, large) in peaks.items()
        ),
    ]
    print("\n".join(lines))
    if options.write:
        intro = TABLE.read_text(encoding="utf-8").split("<!-- table -->")[0]
        TABLE.write_text(intro + "<!-- table -->\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    sound = all(large <= small * (1 + ALLOWED_GROWTH) for small, large in peaks.values())
    print("holds" if sound else "DOES NOT HOLD")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
