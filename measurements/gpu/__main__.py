"""All that only a GPU can tell, in one command: exactness, speed, memory and half precision on models of 7B shape.

    python -m measurements.gpu                        # on a GPU: under 8 minutes; writes docs/gpu.md
    python -m measurements.gpu --small                # the same steps with tiny models, in seconds; also without a GPU
    python -m measurements.gpu --small --out FOLDER   # and the page in FOLDER

It needs no network and no checkpoint: random weights are drawn on the device. Results are written as they come. A step
that fails is named in its table, and the others go on; so is one that there is no time for.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from dualfocus_eval.common.errors import first_line
from measurements.gpu.page import PAGE, block, line_of, write_page
from measurements.gpu.rows import Findings, Missing
from measurements.gpu.runs import large_checkpoint
from measurements.gpu.steps import FULL, SMALL, Plan, Step, steps


def carry_out(todo: Iterable[Step], has_time: Callable[[], bool], publish: Callable[[Findings], None]) -> Findings:
    """Run one step after the other while ``has_time``, and ``publish`` what there is after each."""
    findings = Findings()
    for step in todo:
        if has_time():
            _run(step, findings)
        else:
            findings.missing.append(Missing(step.kind, step.name, "out of time", failed=False))
        publish(findings)
    large_checkpoint.cache_clear()
    return findings


def _run(step: Step, findings: Findings) -> None:
    try:
        rows = step.run()
    except Exception as error:  # whatever it is, the other steps are worth their time
        findings.missing.append(Missing(step.kind, step.name, f"{type(error).__name__}: {first_line(error)}"))
        print(f"{step.name}: failed: {error}", file=sys.stderr, flush=True)
    else:
        findings.rows += rows
        for row in rows:
            print(line_of(row, findings), flush=True)
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def measure(plan: Plan, folder: Path | None, has_time: Callable[[], bool] = lambda: True) -> Findings:
    """Carry out ``plan`` and write the page into ``folder``, if there is one."""
    # A float32 product is to be one: by default convolutions on a GPU round their factors to TF32's 10 bits.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def publish(findings: Findings) -> None:
        if folder is not None:
            write_page(block(findings, plan.device), folder)

    return carry_out(steps(plan), has_time, publish)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny models; without a GPU there is nothing else")
    parser.add_argument("--out", type=Path, help=f"folder of the page (default: {PAGE.parent.name}/ for the full size)")
    parser.add_argument("--minutes", type=float, default=7, help="begin no step later than that (default: %(default)s)")
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = options.small or device == "cpu"
    plan = replace(SMALL if small else FULL, device=device)
    # Loading the libraries counts: who gives a card for some minutes counts it too.
    end = psutil.Process().create_time() + 60 * options.minutes
    folder = options.out or (None if small else PAGE.parent)
    findings = measure(plan, folder, lambda: time.time() < end)
    skipped = [missing.step for missing in findings.missing if not missing.failed]
    if skipped:
        print(f"out of time, not measured: {'; '.join(skipped)}", file=sys.stderr)
    print("sound" if findings.sound else "NOT SOUND")
    return 0 if findings.sound else 1


if __name__ == "__main__":
    sys.exit(main())
