"""Time and memory of the inspector's page in Chromium, on a made-up run of 100,000 questions about 20,000 images.

The run and its report are those of `measurements.report_scale`, with pictures beside the traces. Needs Chromium and
playwright (see CONTRIBUTING).

    python -m measurements.inspector_scale [--questions N] [--write]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import sync_playwright

from dualfocus_eval.common.tables import Number, Table, fill_page, to_markdown
from measurements.chromium import launched
from measurements.report_scale import MADE, QUESTIONS_PER_IMAGE, digest_of, report, write_run

PAGE = Path("docs/inspector.md")
INTERACTIVE_SECONDS, REACTION_MS, MEMORY_MB, REPORT_SECONDS, REPORT_GB = 2, 300, 400, 60, 2
"""On two cores."""
_REACT = """async ([id, kind, value]) => {
  const field = document.getElementById(id);
  const begun = performance.now();
  const shown = new Promise((resolve) => {
    new MutationObserver((_, observer) => { observer.disconnect(); resolve(); })
      .observe(document.getElementById("cards"), { childList: true });
  });
  field.value = value;
  field.dispatchEvent(new Event(kind));
  await shown;
  await new Promise(requestAnimationFrame);
  return performance.now() - begun;
}"""
"""Milliseconds from a change of a control until the new cards are on the page."""
_TRIED = (
    ("a filter: outcome", "facet-1", "change", "1"),
    ("a filter: category", "facet-2", "change", "2"),
    ("no category", "facet-2", "change", ""),
    ("no outcome", "facet-1", "change", ""),
    ("an order: largest confidence gap first", "order", "change", "gap down"),
    ("a random order", "order", "change", "random"),
    ("the first search, which loads the texts", "query", "input", "place 777"),
    ("a search", "query", "input", "place 12"),
    ("a search that finds all", "query", "input", ""),
)

_PROMPT = {
    "a filter: outcome", "a filter: category", "no category", "no outcome", "a search", "a search that finds all",
}  # fmt: skip
"""Those that the limit holds for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; status 1 where a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m measurements.inspector_scale", description=__doc__)
    parser.add_argument("--questions", type=int, default=100_000, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"fill the table of {PAGE}")
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        root, folder, out = (Path(scratch) / name for name in ("data", "run", "report"))
        os.environ |= {"DUALFOCUS_DATA": str(root), "HF_HOME": str(Path(scratch) / "cache"), "HF_HUB_OFFLINE": "1"}
        write_run(root, folder, chosen.questions)
        pictures = _write_pictures(folder / "traces" / "images", chosen.questions)
        seconds, _, peak = report(folder, out)
        size = sum(path.stat().st_size for path in (out / "inspect").iterdir())
        index = (out / "inspect" / "index.js").stat().st_size
        interactive, reactions, memory = _opened(out / "inspect.html")
    rows = [
        ("questions", chosen.questions),
        ("pictures", pictures),
        ("report as a whole, s", Number(seconds)),
        ("its peak memory, GB", Number(peak, decimals=2)),
        ("data beside the page, MB", Number(size / 1e6)),
        ("of it the index, which is loaded first, MB", Number(index / 1e6)),
        ("until the page answers, s", Number(interactive, decimals=2)),
        *((f"{what}, ms", Number(milliseconds, decimals=0)) for what, milliseconds in reactions),
        ("memory of the page's process after all that, MB", Number(memory, decimals=0)),
        ("cores", os.cpu_count()),
    ]
    table = Table("Scale", ("what", "value"), (tuple(rows),))
    print(to_markdown(table))
    if chosen.write:
        fill_page(PAGE, {"inspector scale": to_markdown(table)})
    slow = [ms for what, ms in reactions if what in _PROMPT and ms > REACTION_MS]
    passed = seconds > REPORT_SECONDS or peak > REPORT_GB or interactive > INTERACTIVE_SECONDS or memory > MEMORY_MB
    return int(passed or bool(slow))


def _write_pictures(folder: Path, questions: int) -> int:
    """A real JPEG under the name of every image of the run; they share their bytes on the disk."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    first = folder.parent / "picture.jpg"
    Image.fromarray(noise).resize((640, 480)).save(first, quality=90)
    digests = {
        digest_of(made, number // QUESTIONS_PER_IMAGE)
        for made in MADE
        for number in range(round(made.share * questions))
    }
    for digest in digests:
        os.link(first, folder / f"{digest}.jpg")
    return len(digests)


def _opened(page: Path) -> tuple[float, list[tuple[str, float]], float]:
    """Seconds until the page answers, milliseconds of each reaction, megabytes of its process."""
    with sync_playwright() as playwright:
        browser = launched(playwright)
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        begun = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector(".card")
        tab.evaluate("() => new Promise(requestAnimationFrame)")
        interactive = time.perf_counter() - begun
        reactions = [(what, float(tab.evaluate(_REACT, [*control]))) for what, *control in _TRIED]
        for _ in range(20):
            tab.keyboard.press("n")
            tab.evaluate("() => new Promise((done) => setTimeout(done, 100))")
        memory = max(_memory(process) for process in psutil.Process().children(recursive=True) if _shows(process))
        browser.close()
    return interactive, reactions, memory


def _shows(process: psutil.Process) -> bool:
    return "--type=renderer" in process.cmdline()


def _memory(process: psutil.Process) -> float:
    """What the process has for itself and its part of what it shares, in megabytes."""
    found: Any = process.memory_full_info()
    return float(found.pss) / 1e6


if __name__ == "__main__":
    sys.exit(main())
