"""The embedded checkpoint's calibrated choice, fitted on scenes of another seed than any set or training has.

    python -m measurements.calibration              # answers the sets of other scenes, fits, prints what it is worth
    python -m measurements.calibration --write      # and puts the file into models/dualfocus-tiny

The run on `df_mini` is the test: no image of it is in the fit. 15 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

from dualfocus_eval.cli.calibrate import main as calibrate
from dualfocus_eval.cli.eval import main as evaluate
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.method.selection.calibration import CALIBRATION_FILE
from dualfocus_eval.tiny.scenes.layout import Scene, compose
from dualfocus_eval.tiny.sets import gqa, mmbench, pope, scenes, seed, textvqa, write_minis

COMMITTED = resource_folder("models") / EMBEDDED_CHECKPOINT
OUT = Path("build/calibration")
SEED = 20_261_129
"""Of the scenes that the choice is fitted on."""
TIMES = 2
"""How many times the scenes of the embedded sets; `df_scenes_mini`, the largest, has as many as there."""


def main() -> int:
    """The exit status of the run or of the fit, whichever fails first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where to work (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the file into the embedded checkpoint's folder")
    chosen = parser.parse_args()
    tasks, run = chosen.out / "tasks", chosen.out / "run"
    if not tasks.is_dir():
        write_other_scenes(tasks)
    model_args = "strategy=dualfocus,score_all=true,selection=micro_context"
    arguments = ["--tasks", "df_mini", "--include_path", str(tasks), "--model_args", model_args, "--batch_size", "16"]
    status = evaluate([*arguments, "--output_path", str(run), "--log_samples"])
    target = COMMITTED if chosen.write else chosen.out
    status = status or calibrate([str(run), "--out", str(target / CALIBRATION_FILE)])
    if chosen.write and not status:
        _make_default()
    return status


def _make_default() -> None:
    """Name the file in the checkpoint's settings."""
    path = COMMITTED / "dualfocus.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["inference"]["selection"] = CALIBRATION_FILE
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_other_scenes(tasks: Path) -> None:
    """A copy of the tasks folder whose embedded sets show scenes of `SEED`, `TIMES` as many."""
    shutil.copytree(resource_folder("tasks"), tasks)
    sets = (gqa, mmbench, pope, seed, textvqa)
    patches = [patch.object(module, "held_out", partial(_other_scenes, times=TIMES)) for module in sets]
    patches.append(patch.object(scenes, "held_out", partial(_other_scenes, times=1)))
    for one in patches:
        one.start()
    try:
        write_minis(tasks)
    finally:
        for one in patches:
            one.stop()


def _other_scenes(start: int, count: int, *, times: int) -> Iterator[Scene]:
    """In place of `table.held_out`; no two sets share a scene here either."""
    return (compose(SEED, times * start + index) for index in range(times * count))


if __name__ == "__main__":
    raise SystemExit(main())
