"""Does the recipe of the embedded checkpoint give that checkpoint again?

    make tiny                               # trains it from nothing, about an hour on two cores
    python -m benchmarks.retrain --write    # answers df_mini with both checkpoints and fills docs/training.md

Weights that were trained on another machine are not the same bit for bit, since sums come in another order. What has to
come back are the scores: within `TOLERANCE` points, each pathway of each embedded benchmark.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dualfocus_eval.harness.cli import main as evaluate
from dualfocus_eval.report.reading import read_run
from dualfocus_eval.report.runs import Run
from dualfocus_eval.report.tables import fill_page
from dualfocus_eval.resources import resource_folder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "training.md"
COMMITTED = resource_folder("models") / "dualfocus-tiny"
PATHWAYS = ("macro", "micro", "selected")
TOLERANCE = 5.0
"""Points of a hundred: about two of the standard errors that 360 questions, the size of most of the sets, have."""


class Row(NamedTuple):
    """A task with a pair of scores per pathway, of the committed weights and of those trained again."""

    task: str
    questions: int
    scores: list[tuple[float, float]]


def main() -> int:
    """Print a row per task; the exit status is 1 where a score is out of tolerance, 2 where it cannot be judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("runs/dualfocus-tiny/checkpoint"),
        metavar="FOLDER",
        help="the checkpoint that was trained again (default: where make tiny leaves it)",
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    chosen = parser.parse_args()
    if not (chosen.checkpoint / "model.safetensors").is_file():
        parser.error(f"--checkpoint: no checkpoint in {chosen.checkpoint}; make tiny trains it")
    with tempfile.TemporaryDirectory() as folder:
        committed = _answered(COMMITTED, Path(folder) / "committed")
        again = _answered(chosen.checkpoint, Path(folder) / "again")
    rows = list(_rows(committed, again))
    greatest = max(abs(now - before) for row in rows for before, now in row.scores)
    held = greatest <= TOLERANCE
    same = _weights(COMMITTED) == _weights(chosen.checkpoint)
    said = (
        f"Greatest difference: {greatest:.1f} points, tolerance {TOLERANCE:g}: {'holds' if held else 'DOES NOT HOLD'}. "
        f"The weights are {'' if same else 'not '}the same bit for bit."
    )
    table = "\n".join([*_markdown(rows), "", said])
    print(table)
    if chosen.write:
        fill_page(PAGE, {"trained again": table})
    return int(not held)


def _answered(checkpoint: Path, folder: Path) -> Run:
    arguments = ["--tasks", "df_mini", "--model_args", f"pretrained={checkpoint}", "--batch_size", "16"]
    status = evaluate([*arguments, "--output_path", str(folder), "--log_samples"])
    run = read_run(folder)
    faults = [str(fault) for fault in run.faults if not fault.harmless]
    if status or faults or not run.answers["traced"].all():
        print("; ".join([f"not every question was answered with {checkpoint}", *faults]), file=sys.stderr)
        sys.exit(2)
    return run


def _weights(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def _rows(committed: Run, again: Run) -> Iterator[Row]:
    for task in committed.task_names:
        before, now = committed.of(task), again.of(task)
        columns = [f"score_{pathway}" for pathway in PATHWAYS]
        yield Row(task, len(before), [(100 * before[column].mean(), 100 * now[column].mean()) for column in columns])


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| task | questions | " + " | ".join(f"{pathway} | again" for pathway in PATHWAYS) + " |"
    yield "|---|---:|" + "---:|" * (2 * len(PATHWAYS))
    for row in rows:
        cells = " | ".join(f"{before:.1f} | {now:.1f}" for before, now in row.scores)
        yield f"| {row.task} | {row.questions:,} | {cells} |"


if __name__ == "__main__":
    sys.exit(main())
