"""What a sweep over five grounding methods costs, beside a run of ``dualfocus eval`` for each of them.

    python -m measurements.sweep_cost --write    # into docs/sweep.md

The real commands, each in a process of its own, one after the other. Two more runs measure the first pass alone, which
is all that settings can share: with an adaptive threshold that every macro answer passes, and with ``strategy=macro``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dualfocus_eval.common.tables import Number, Table, fill_page, to_markdown

PAGE = Path(__file__).parent.parent / "docs" / "sweep.md"
ASKING = ("text_box", "center", "random", "whole")
"""Grounding methods that ask the model for its box."""
OTHERS = ("truth",)
FIRST_PASS = "grounding=text_box,adaptive_nll=1000"
MACRO = "strategy=macro"
LIMIT_SECONDS = 0.5
"""The most of the processor time of separate runs that a sweep may take."""


@dataclass(frozen=True)
class Spent:
    """What commands took, start and end included."""

    images: float = 0
    """Encoded."""
    tokens: float = 0
    """Prefilled or decoded."""
    processor: float = 0
    """Seconds."""
    wall: float = 0
    """Seconds."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __mul__(self, times: float) -> Spent:
        return Spent(*(times * getattr(self, each.name) for each in fields(self)))

    def __sub__(self, other: Spent) -> Spent:
        return self + other * -1


NAMES = {
    "images": "images encoded",
    "tokens": "tokens computed",
    "processor": "processor time, s",
    "wall": "wall time, s",
}


@dataclass(frozen=True)
class Measured:
    """A sweep and what it is compared with."""

    sweep: Spent
    alone: Spent
    """Of a run for each setting."""
    first_pass_once: Spent
    """Of these runs, if what their first passes have in common were counted once: S + 5P in place of 5S + 5P."""


def measure(options: Sequence[str], scratch: Path) -> Measured:
    """Run all commands; ``options`` are those of each."""

    def evaluate(model_args: str) -> Spent:
        out = scratch / model_args.partition(",")[0]
        out = out if model_args != FIRST_PASS else scratch / "first_pass"
        return spent(["eval", *options, "--model_args", model_args, "--log_samples", "--output_path", str(out)], out)

    out = scratch / "sweep"
    swept = spent(["sweep", *options, "--grounding", ",".join((*ASKING, *OTHERS)), "--out", str(out)], out)
    asking = [evaluate(f"grounding={name}") for name in ASKING]
    others = [evaluate(f"grounding={name}") for name in OTHERS]
    alone = sum([*asking, *others], Spent())
    shared = evaluate(FIRST_PASS) * (len(asking) - 1) + evaluate(MACRO) * len(others)
    return Measured(swept, alone, alone - shared)


def spent(arguments: Sequence[str], out: Path) -> Spent:
    """Run a command of ours, whose results are below ``out``. Raises RuntimeError where it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "dualfocus_eval", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"dualfocus {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    summaries = [json.loads(path.read_text())["dualfocus"]["summary"] for path in out.rglob("*_results.json")]
    images = sum(summary["images_encoded"] for summary in summaries)
    tokens = sum(summary["tokens_prefilled"] + summary["decode_steps"] for summary in summaries)
    return Spent(images, tokens, usage.ru_utime + usage.ru_stime, wall)


def table(found: Measured, title: str) -> Table:
    """A row for each kind of work."""
    header = ("work", "five runs", "sweep", "sweep ÷ five runs", "first pass once ÷ five runs")
    rows = []
    for name, words in NAMES.items():
        sweep, alone, once = (getattr(one, name) for one in (found.sweep, found.alone, found.first_pass_once))
        ratios = (Number(value / alone, decimals=2) for value in (sweep, once))
        rows.append((words, Number(alone, decimals=0), Number(sweep, decimals=0), *ratios))
    return Table(title, header, (tuple(rows),))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and, if asked for, fill the page; status 1 where the sweep takes more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="df_scenes_mini", metavar="NAMES")
    parser.add_argument("--limit", type=int, default=120, metavar="N", help="questions of each task (default: 120)")
    parser.add_argument("--write", action="store_true", help=f"write the table into docs/{PAGE.name}")
    chosen = parser.parse_args(argv)
    options = ["--tasks", chosen.tasks, "--limit", str(chosen.limit), "--batch_size", "16"]
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    shown = to_markdown(table(found, "Cost"))
    print(shown)
    if chosen.write:
        fill_page(PAGE, {"sweep cost": shown})
    return int(found.sweep.processor > LIMIT_SECONDS * found.alone.processor)


if __name__ == "__main__":
    sys.exit(main())
