"""The pictures that a run has kept, and how a report takes them along."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.traces.pictures import picture_file

__all__ = ["KEPT_FOLDER", "KeptPictures", "copy_pictures", "kept_pictures"]

KEPT_FOLDER = "images"
"""Of a report, relative to it."""


@dataclass(frozen=True)
class KeptPictures:
    """The pictures of a run's questions."""

    files: Mapping[str, Path]
    """By digest, those that are there."""
    notes: tuple[str, ...]
    """What the reader should know of others."""


def kept_pictures(*runs: Run) -> KeptPictures:
    """The pictures of all questions of the runs, in the order of the questions."""
    files: dict[str, Path] = {}
    asked: set[str] = set()
    for run in runs:
        shown = run.answers.loc[run.answers["width"].notna(), "cluster"].unique().tolist()
        asked.update(shown)
        for digest in shown:
            path = picture_file(run.trace_folder, digest) if run.trace_folder else None
            if path and digest not in files and _is_file(path):
                files[digest] = path
    missing = len(asked) - len(files)
    if asked and not files:
        return KeptPictures(files, (
            "No pictures: the run kept none (trace_images=off, or an older version). Run it again with the same "
            "--output_path to add them; its answers are reused.",
        ))  # fmt: skip
    notes = (f"{missing:,} of {len(asked):,} pictures are missing from the run's folder.",) if missing else ()
    return KeptPictures(files, notes)


def copy_pictures(files: Mapping[str, Path], folder: Path) -> None:
    """Put the pictures into ``folder`` as ``DIGEST.jpg``: linked where the file system can, so that they take no
    space twice, else copied. Raises ``OSError`` where neither works."""
    if files:
        folder.mkdir(parents=True, exist_ok=True)
    for digest, path in files.items():
        target = folder / f"{digest}.jpg"
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)


def _is_file(path: Path) -> bool:
    """Whether it is a regular file itself: a link in somebody's run may lead anywhere."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
