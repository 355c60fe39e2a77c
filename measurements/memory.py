"""Peak memory of preparing a benchmark and of iterating it, at one size and at twice that: it must not grow with it.

    python -m measurements.memory            # 2,000 and 4,000 images
    python -m measurements.memory --write    # and docs/memory.md

Releases of POPE's layout (JSON lines) and of GQA's (one JSON object) are written with pictures of random pixels, six
questions each. Every figure is the largest resident set of a process of its own, as the operating system counts it.
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

from dualfocus_eval.datasets.prepared import VARIABLE

QUESTIONS, SIDE = 6, 256
ALLOWED_GROWTH = 0.10
TABLE = Path(__file__).parent.parent / "docs" / "memory.md"

_PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
_PREPARE = """
import sys, pathlib
from dualfocus_eval.datasets import BENCHMARKS
from dualfocus_eval.datasets.prepare import prepare
prepare(BENCHMARKS[sys.argv[1]], pathlib.Path("release"), pathlib.Path("root"))
"""
_ITERATE = """
import sys
from datasets import load_dataset
from dualfocus_eval.datasets.prepared import image_of
tables = f"root/{sys.argv[1]}/*.parquet"
rows = load_dataset("parquet", data_files=tables, split="train", cache_dir="cache")
print(sum(image_of(row["image"]).width for row in rows), file=sys.stderr)
"""
STEPS = {"prepare": _PREPARE, "iterate": _ITERATE}


def write_images(folder: Path, images: int) -> None:
    """Pictures that do not compress."""
    folder.mkdir(parents=True)
    rng = random.Random(images)
    for number in range(images):
        pixels = Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(SIDE * SIDE * 3))
        pixels.save(folder / f"{number:06}.jpg", quality=90)


def write_pope(folder: Path, images: int) -> None:
    """Question files of POPE's layout."""
    for split in ("random", "popular", "adversarial"):
        with (folder / f"coco_pope_{split}.json").open("w", encoding="utf-8") as file:
            for number in range(images * QUESTIONS // 3):
                image, label = f"{number % images:06}.jpg", ("yes", "no")[number // images % 2]
                text = f"Is there a thing of kind {number} in the image?"
                file.write(json.dumps({"question_id": number, "image": image, "text": text, "label": label}) + "\n")


def write_gqa(folder: Path, images: int) -> None:
    """A question file of GQA's layout."""
    questions = {
        str(number): {
            "imageId": f"{number % images:06}",
            "question": f"What is the thing of kind {number}?",
            "answer": f"thing {number}",
            "fullAnswer": f"It is thing {number}.",
            "types": {"structural": "query", "semantic": "object", "detailed": "objThisQ"},
            "groups": {"global": "thing", "local": f"10q-thing_{number}"},
        }
        for number in range(images * QUESTIONS)
    }
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(questions), encoding="utf-8")


RELEASES = {"pope": write_pope, "gqa": write_gqa}


def peak(step: str, benchmark: str, folder: Path) -> int:
    """Largest resident set of one step in a process of its own, in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS[step] + _PEAK, benchmark],
        cwd=folder,
        env=os.environ | {VARIABLE: str(folder / "root"), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def measure(images: int) -> dict[tuple[str, str], int]:
    """Peaks by step and benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "release", images)
        for write in RELEASES.values():
            write(folder / "release", images)
        return {(step, benchmark): peak(step, benchmark, folder) for benchmark in RELEASES for step in STEPS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="the smaller number (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    options = parser.parse_args()
    small, large = measure(options.images), measure(2 * options.images)
    lines = [
        f"| step | {options.images:,} images | {2 * options.images:,} images | growth |",
        "|---|---|---|---|",
        *(
            f"| {' '.join(place)} | {small[place] / 1024:.0f} MiB | {large[place] / 1024:.0f} MiB "
            f"| {large[place] / small[place] - 1:+.1%} |"
            for place in small
        ),
    ]
    print("\n".join(lines))
    if options.write:
        intro = TABLE.read_text(encoding="utf-8").split("<!-- table -->")[0]
        TABLE.write_text(intro + "<!-- table -->\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    sound = all(large[place] <= small[place] * (1 + ALLOWED_GROWTH) for place in small)
    print("holds" if sound else "DOES NOT HOLD")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
