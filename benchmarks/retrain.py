"""Does the recipe of the embedded checkpoint give that checkpoint again?

    make tiny                               # trains it from nothing, about an hour on two cores
    python -m benchmarks.retrain --write    # compares the two checkpoints and fills docs/training.md

On a machine of the same kind, with as many threads, the weights come out the same bit for bit, and with them the
scores. Elsewhere sums come in another order, and what has to come back are the scores: within `TOLERANCE` points, each
pathway of each embedded benchmark. Both checkpoints then answer all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file

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
    """Print the verdict; the exit status is 1 where a score is out of tolerance, 2 where it cannot be judged."""
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
    seconds = sum(stage["seconds"] for stage in json.loads((chosen.checkpoint / "training.json").read_text()))
    trained = f"Trained again from nothing in {seconds:,} seconds with torch {torch.__version__}: "
    if _same_weights(COMMITTED, chosen.checkpoint):
        found, held = trained + "all weights are the committed ones bit for bit, and so are all scores.", True
    else:
        rows = _rows(chosen.checkpoint)
        greatest = max(abs(now - before) for row in rows for before, now in row.scores)
        held = greatest <= TOLERANCE
        verdict = f"{greatest:.1f} points, tolerance {TOLERANCE:g}: {'holds' if held else 'DOES NOT HOLD'}."
        found = "\n".join([*_markdown(rows), "", trained + f"the greatest difference of a score is {verdict}"])
    print(found)
    if chosen.write:
        fill_page(PAGE, {"trained again": found})
    return int(not held)


def _same_weights(first: Path, second: Path) -> bool:
    one, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _rows(checkpoint: Path) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        committed = _answered(COMMITTED, Path(folder) / "committed")
        again = _answered(checkpoint, Path(folder) / "again")
    rows = []
    for task in committed.task_names:
        before, now = committed.of(task), again.of(task)
        columns = [f"score_{pathway}" for pathway in PATHWAYS]
        scores = [(100 * before[column].mean(), 100 * now[column].mean()) for column in columns]
        rows.append(Row(task, len(before), scores))
    return rows


def _answered(checkpoint: Path, folder: Path) -> Run:
    arguments = ["--tasks", "df_mini", "--model_args", f"pretrained={checkpoint}", "--batch_size", "16"]
    status = evaluate([*arguments, "--output_path", str(folder), "--log_samples"])
    run = read_run(folder)
    faults = [str(fault) for fault in run.faults if not fault.harmless]
    if status or faults or not run.answers["traced"].all():
        print("; ".join([f"not every question was answered with {checkpoint}", *faults]), file=sys.stderr)
        sys.exit(2)
    return run


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| task | questions | " + " | ".join(f"{pathway} | again" for pathway in PATHWAYS) + " |"
    yield "|---|---:|" + "---:|" * (2 * len(PATHWAYS))
    for row in rows:
        cells = " | ".join(f"{before:.1f} | {now:.1f}" for before, now in row.scores)
        yield f"| {row.task} | {row.questions:,} | {cells} |"


if __name__ == "__main__":
    sys.exit(main())
