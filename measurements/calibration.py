"""The embedded checkpoint's calibrated choice, fitted on scenes of other seeds than any set or training has.

    python -m measurements.calibration              # answers the sets of other scenes, fits, prints what it is worth
    python -m measurements.calibration --write      # and puts the file into models/dualfocus-tiny
    python -m measurements.calibration --judge      # answers df_mini, and writes docs/calibration.md's tables

The run on `df_mini` is the test: no image of it is in the fit. 15 and 8 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from dualfocus_eval.cli.calibrate import main as calibrate
from dualfocus_eval.cli.eval import main as evaluate
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.common.tables import fill_page, to_markdown
from dualfocus_eval.method.selection.calibration import CALIBRATION_FILE
from dualfocus_eval.tiny.scenes.layout import Scene, compose
from dualfocus_eval.tiny.sets import gqa, mmbench, pope, scenes, seed, textvqa
from measurements.calibration_page import tables

COMMITTED = resource_folder("models") / EMBEDDED_CHECKPOINT
PAGE = Path("docs/calibration.md")
OUT = Path("build/calibration")
SEED, EXISTENCE_SEED = 20_261_129, 20_261_130
"""Of the scenes that the choice is fitted on, and of those that are asked about in POPE's form."""
TIMES = 2
"""How many times the scenes of the embedded sets; `df_scenes_mini`, the largest, has as many as there."""
EXISTENCE_SCENES = 200
SETS = (gqa, mmbench, pope, scenes, seed, textvqa)
TASKS = (
    "df_scenes_mini,df_pope_mini,df_seed_img_mini,df_mmbench_en_mini,df_gqa_mini,df_gqa_mcq_mini,df_textvqa_mini,"
    "df_textvqa_ocr_mini"
)
"""Those of `SETS`. `df_detail_mini` is no part of the fit, only of the test."""


def main() -> int:
    """The exit status of the run or of the fit, whichever fails first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where to work (default: %(default)s)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the file into the embedded checkpoint's folder")
    what.add_argument("--judge", action="store_true", help="judge the checkpoint's file, and write the page's tables")
    chosen = parser.parse_args()
    return judge(chosen.out / "judged") if chosen.judge else fit(chosen.out, write=chosen.write)


def fit(out: Path, *, write: bool) -> int:
    """Answer the sets of other scenes below ``out`` and fit the choice on the answers."""
    tasks, run = out / "tasks", out / "run"
    if not tasks.is_dir():
        write_other_scenes(tasks)
    model_args = "strategy=dualfocus,score_all=true,selection=micro_context"
    status = _answered(TASKS, "--include_path", str(tasks), "--model_args", model_args, "--output_path", str(run))
    target = COMMITTED if write else out
    status = status or calibrate([str(run), "--out", str(target / CALIBRATION_FILE)])
    if write and not status:
        _make_default()
    return status


def judge(run: Path) -> int:
    """Answer ``df_mini`` with the checkpoint's own choice, print the tables and put them into the page."""
    status = _answered("df_mini", "--model_args", "score_all=true", "--output_path", str(run))
    if not status:
        blocks = {name: to_markdown(table) for name, table in tables(run).items()}
        print("\n\n".join(blocks.values()))
        fill_page(PAGE, blocks)
    return status


def _answered(tasks: str, *arguments: str) -> int:
    return evaluate(["--tasks", tasks, "--batch_size", "16", "--log_samples", *arguments])


def _make_default() -> None:
    """Name the file in the checkpoint's settings."""
    path = COMMITTED / "dualfocus.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["inference"]["selection"] = CALIBRATION_FILE
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_other_scenes(tasks: Path) -> None:
    """A copy of the tasks folder whose embedded sets show other scenes, no two sets the same."""
    shutil.copytree(resource_folder("tasks"), tasks)
    in_place_of: dict[ModuleType, Callable[[int, int], Iterator[Scene]]] = {
        module: partial(_other_scenes, times=TIMES) for module in (gqa, mmbench, seed, textvqa)
    }
    in_place_of |= {scenes: partial(_other_scenes, times=1), pope: _existence_scenes}
    for module in SETS:
        with patch.object(module, "held_out", in_place_of[module]):
            module.write(tasks)


def _other_scenes(start: int, count: int, *, times: int) -> Iterator[Scene]:
    """In place of `table.held_out`."""
    return (compose(SEED, times * start + index) for index in range(times * count))


def _existence_scenes(start: int, count: int) -> Iterator[Scene]:
    """In place of `table.held_out`, however many are asked for."""
    return (compose(EXISTENCE_SEED, index) for index in range(EXISTENCE_SCENES))


if __name__ == "__main__":
    raise SystemExit(main())
