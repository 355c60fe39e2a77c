"""What every way of looking again is worth on the embedded checkpoint, and whether the controls order as they should.

    python -m measurements.where_to_look --write    # into docs/grounding.md

``dualfocus sweep`` answers questions about details: those of ``df_scenes_mini``, and ``df_detail_mini``. The tables are
made from its traces. The command goes on where it was stopped. Two processes share the work with ``--task``, one each;
the last run, without ``--task``, then finds all answers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, scores_of
from dualfocus_eval.analysis.intervals import Estimate, mean_difference
from dualfocus_eval.analysis.measures import shown
from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.sweeping import Effect, effects_of
from dualfocus_eval.common.tables import Cell, Number, Table, fill_page, to_markdown
from dualfocus_eval.harness.sweeping import MACRO, variants_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "grounding.md"
OWN_TASKS = Path(__file__).parent / "detail_tasks"
TASKS = {"df_scenes_details": "details of df_scenes_mini", "df_detail_mini": "df_detail_mini"}
"""What the tables call each task."""
SHIFTS = (10, 25, 50, 100)
"""Pixels."""
REFERENCE = "text_box + append_crop"


@dataclass(frozen=True)
class Part:
    """One command: every grounding method with every second pass."""

    folder: str
    grounding: Sequence[str]
    second_pass: Sequence[str] = ("append_crop",)
    share: float = 1.0
    """Of the questions."""


PARTS = (
    Part(
        "look",
        ("text_box", "attention", "truth", "center", "random", "whole", *(f"shifted:jitter={by}" for by in SHIFTS)),
    ),
    Part("second_passes", ("text_box",), ("no_crop", "blank_crop", "joint", "crop_only"), share=0.4),
    Part("tiles", ("tiles",), share=0.2),
)
"""Second passes need fewer questions, since they differ so much; ``tiles`` encodes nine tiles for each question."""


@dataclass(frozen=True)
class Expected:
    """The first setting is at least as good as the second, better, or as good."""

    first: str
    sign: str
    second: str

    def verdict(self, found: Estimate) -> str:
        """By the interval of the paired difference, first less second."""
        if self.sign == "≈":
            return "yes" if found.low <= 0 <= found.high else "no"
        if found.low > 0:
            return "yes"
        if found.high < 0:
            return "no"
        return "yes" if self.sign == "≥" else "not shown"


def _shifted(pixels: int) -> str:
    return f"shifted:jitter={pixels} + append_crop"


EXPECTED = (
    Expected("truth + append_crop", "≥", REFERENCE),
    Expected(REFERENCE, ">", "attention + append_crop"),
    Expected("attention + append_crop", ">", "center + append_crop"),
    Expected("center + append_crop", "≈", "random + append_crop"),
    Expected(REFERENCE, ">", "text_box + blank_crop"),
    Expected(REFERENCE, ">", "text_box + no_crop"),
    Expected(REFERENCE, "≥", _shifted(SHIFTS[0])),
    *(Expected(_shifted(less), ">", _shifted(more)) for less, more in pairwise(SHIFTS)),
)


def sweep(part: Part, task: str, limit: int, out: Path) -> list[str]:
    """The command of a part for one task."""
    return [
        sys.executable, "-m", "dualfocus_eval", "sweep", "--include_path", str(OWN_TASKS), "--tasks", task,
        "--limit", str(round(part.share * limit)), "--batch_size", "16", "--grounding", ",".join(part.grounding),
        "--second_pass", ",".join(part.second_pass), "--out", str(_folder(part, task, out)),
    ]  # fmt: skip


def _folder(part: Part, task: str, out: Path) -> Path:
    return out / part.folder / task


@dataclass(frozen=True)
class Looked:
    """What a task's questions were answered, at first and by setting."""

    task: str
    macro: Run
    runs: Mapping[str, Run]

    def effects(self, choice: Choice) -> list[Effect]:
        """Of every setting, in order."""
        return effects_of(self.macro, self.runs, choice, REFERENCE)[self.task]


def looked(task: str, out: Path) -> Looked:
    """The finished runs of a task."""
    folders = {
        variant.name: _folder(part, task, out) / "runs" / variant.folder
        for part in PARTS
        for variant in variants_of(part.grounding, part.second_pass)
    }
    macro = _folder(PARTS[0], task, out) / "runs" / MACRO.folder
    return Looked(task, read_run(macro), {name: read_run(folder) for name, folder in folders.items()})


def settings_table(found: Looked) -> Table:
    """Every setting of a task beside the macro answers to the same questions."""
    micro, selected = found.effects("micro"), found.effects("selected")
    n, images = micro[0].comparison.questions, micro[0].comparison.images
    header = (
        "setting", "crop % of image", "of the object in it %", "macro %", "micro %", "micro less macro",
        "wrong to right", "right to wrong", "left of the gain %", "selected %", "selected less macro",
    )  # fmt: skip
    rows = tuple(
        (one.setting, *_shown(found.runs[one.setting]), *_worth(one, two))
        for one, two in zip(micro, selected, strict=True)
    )
    note = f"{n:,} questions about {images:,} images"
    for effect in micro:
        if effect.comparison.questions != n:
            note += f"; {_short(effect.setting)}: {effect.comparison.questions:,}"
    return Table(TASKS[found.task], header, (rows,), (f"{note}.",))


def _shown(run: Run) -> tuple[Number, Number]:
    """Mean shares: of the image in the crop, and of the data set's box in it."""
    rows = run.answers[run.answers["crop_left"].notna()]
    sizes = rows[["width", "height"]].to_numpy()
    low, high = (rows[sides].to_numpy() / sizes for sides in (["crop_left", "crop_top"], ["crop_right", "crop_bottom"]))
    truth_low, truth_high = (rows[[f"truth_x{corner}", f"truth_y{corner}"]].to_numpy() for corner in (1, 2))
    common = np.clip(np.minimum(high, truth_high) - np.maximum(low, truth_low), 0, None).prod(axis=1)
    shares = ((high - low).prod(axis=1), common / (truth_high - truth_low).prod(axis=1))
    area, held = (Number(100 * float(share.mean())) for share in shares)
    return area, held


def _worth(micro: Effect, selected: Effect) -> tuple[Cell, ...]:
    found, chosen = micro.comparison, selected.comparison
    return (
        Number(100 * found.first),
        Number(100 * found.second),
        _points(found.difference),
        found.test.better,
        found.test.worse,
        replace(shown(micro.remaining, share=True), decimals=0) if micro.remaining else None,
        Number(100 * chosen.second),
        _points(chosen.difference),
    )


def _points(found: Estimate) -> Number:
    return replace(shown(found, share=True, unit="points"), signed=True)


def order_table(tasks: Sequence[Looked]) -> Table:
    """The expected order, judged by the micro answers to each task's questions, and by both kinds of answers to all."""
    header = [
        "expected",
        "n",
        *(f"{TASKS[one.task]}: micro" for one in tasks),
        "all: micro",
        "so",
        "all: selected",
        "so",
    ]
    rows = []
    for expected in EXPECTED:
        parts = [_paired(one, expected) for one in tasks]
        both = pd.concat(parts, ignore_index=True)
        cells: list[Cell] = [_points(_difference(part, "micro")) for part in parts]
        for choice in ("micro", "selected"):
            found = _difference(both, choice)
            cells += [_points(found), expected.verdict(found)]
        rows.append((f"{_short(expected.first)} {expected.sign} {_short(expected.second)}", len(both), *cells))
    notes = (
        "Paired differences in points, first less second, with 95% intervals clustered by image.",
        "not shown: the interval includes 0. Only an interval without 0 speaks against ≥ and ≈.",
    )
    return Table("Order", tuple(header), (tuple(rows),), notes)


def _difference(pairs: pd.DataFrame, choice: Choice) -> Estimate:
    """First less second."""
    return mean_difference(pairs[f"{choice}_second"], pairs[f"{choice}_first"], pairs["cluster"])


def _paired(found: Looked, expected: Expected) -> pd.DataFrame:
    """The scores of both settings' answers, question by question."""
    first, second = (_scores(found.runs[setting]) for setting in (expected.first, expected.second))
    second = second.drop(columns="cluster")
    return first.merge(second, left_index=True, right_index=True, suffixes=("_first", "_second"))


def _scores(run: Run) -> pd.DataFrame:
    rows = run.answers.set_index("key")
    return rows[["cluster"]].assign(**{choice: scores_of(rows, choice) for choice in ("micro", "selected")})


def _short(setting: str) -> str:
    grounding, second_pass = setting.split(" + ")
    return (grounding if second_pass == "append_crop" else second_pass).replace(":jitter=", " by ")


def blocks(tasks: Sequence[Looked]) -> dict[str, str]:
    """What stands between the markers of the page."""
    tables = {f"worth on {found.task}": settings_table(found) for found in tasks}
    return {name: to_markdown(table) for name, table in (tables | {"worth in order": order_table(tasks)}).items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweeps, print the tables and, if asked for, fill the page; status 1 where a sweep has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="questions of each task (default: 500)")
    parser.add_argument("--task", choices=TASKS, help="run the sweeps of this task only, and make no tables")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "where-to-look", metavar="DIR")
    parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{PAGE.name}")
    chosen = parser.parse_args(argv)
    for task in [chosen.task] if chosen.task else TASKS:
        for part in PARTS:
            if status := subprocess.run(sweep(part, task, chosen.limit, chosen.out), check=False).returncode:
                return status
    if chosen.task:
        return 0
    found = blocks([looked(task, chosen.out) for task in TASKS])
    print(*found.values(), sep="\n\n")
    if chosen.write:
        fill_page(PAGE, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
