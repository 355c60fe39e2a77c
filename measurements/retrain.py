"""Does the recipe of the embedded checkpoint give that checkpoint again?

    make tiny                               # trains it from nothing, about two hours on two cores
    python -m measurements.retrain --write    # compares the two checkpoints and fills docs/training.md

On a machine of the same kind, with as many threads, the weights come out the same bit for bit, and with them the
scores. Elsewhere sums come in another order, and what has to come back are the scores: within `TOLERANCE` points, each
pathway of each embedded benchmark. Both checkpoints then answer all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.cli.eval import main as evaluate
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.common.tables import Cell, Number, Table, fill_page, to_markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "training.md"
COMMITTED = resource_folder("models") / "dualfocus-tiny"
PATHWAYS = ("macro", "micro", "selected")
TOLERANCE = 5.0
"""Points of a hundred: about two of the standard errors that 360 questions, the size of most of the sets, have."""


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
    provenance = json.loads((chosen.checkpoint / "dualfocus.json").read_text())["provenance"]
    seconds = sum(stage["seconds"] for stage in provenance["stages"])
    trained = f"Trained again from nothing in {seconds:,} seconds with torch {provenance['torch']}: "
    if _same_weights(COMMITTED, chosen.checkpoint):
        found, held = trained + "all weights are the committed ones bit for bit, and so are all scores.", True
    else:
        rows, greatest = _compare(chosen.checkpoint)
        held = greatest <= TOLERANCE
        verdict = f"{greatest:.1f} points, tolerance {TOLERANCE:g}: {'holds' if held else 'DOES NOT HOLD'}."
        header = ("task", "questions", *(name for pathway in PATHWAYS for name in (pathway, "again")))
        note = trained + f"the greatest difference of a score is {verdict}"
        found = to_markdown(Table("Trained again", header, (rows,), (note,)))
    print(found)
    if chosen.write:
        fill_page(PAGE, {"trained again": found})
    return int(not held)


def _same_weights(first: Path, second: Path) -> bool:
    one, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _compare(checkpoint: Path) -> tuple[tuple[tuple[Cell, ...], ...], float]:
    """A row per task with every pathway's two scores, and the greatest difference between two."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_answered(COMMITTED, Path(folder) / "committed"), _answered(checkpoint, Path(folder) / "again")]
    rows: list[tuple[Cell, ...]] = []
    greatest = 0.0
    for task in runs[0].task_names:
        answers = [run.of(task) for run in runs]
        pairs = [[100 * float(part[f"score_{pathway}"].mean()) for part in answers] for pathway in PATHWAYS]
        greatest = max(greatest, *(abs(now - before) for before, now in pairs))
        rows.append((task, len(answers[0]), *(Number(score) for pair in pairs for score in pair)))
    return tuple(rows), greatest


def _answered(checkpoint: Path, folder: Path) -> Run:
    arguments = ["--tasks", "df_mini", "--model_args", f"pretrained={checkpoint}", "--batch_size", "16"]
    status = evaluate([*arguments, "--output_path", str(folder), "--log_samples"])
    run = read_run(folder)
    faults = [str(fault) for fault in run.faults if not fault.harmless]
    if status or faults or not run.answers["traced"].all():
        print("; ".join([f"not every question was answered with {checkpoint}", *faults]), file=sys.stderr)
        sys.exit(2)
    return run


if __name__ == "__main__":
    sys.exit(main())
