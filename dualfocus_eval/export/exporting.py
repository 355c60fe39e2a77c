"""From a run to an export in a folder of its own: whole, or not there at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dualfocus_eval.analysis.cards import cards_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import writing_out
from dualfocus_eval.export.base import Exported, ExportFormat
from dualfocus_eval.report.kept_pictures import kept_pictures

__all__ = ["export_run"]


def export_run(run: Run, form: ExportFormat, out: Path) -> Sequence[str]:
    """Write the run's questions to the folder ``out``, and say what of the run is not in it.

    Raises ``UserError`` for a run without questions, and where ``out`` has something in it or cannot be written.
    """
    if run.answers.empty:
        raise UserError(f"{run.path} has no questions to export: its samples are not there (--log_samples)")
    kept = kept_pictures(run)
    exported = Exported(run.name, _about(run), partial(cards_of, run), kept.files)
    with writing_out(out):
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out: {out} is there already: name a new folder, or empty this one")
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:100]}-"))
        try:
            notes = form.write(exported, work)
            work.chmod(0o777 & ~_umask())
            os.replace(work, out)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return (*kept.notes, *notes)


def _about(run: Run) -> dict[str, Any]:
    """What the run was, for formats that have a place for it."""
    return {
        "model": run.model,
        "tasks": list(run.task_names),
        "settings": {
            name: value for name, value in run.settings.items() if isinstance(value, str | int | float | bool)
        },
    }


def _umask() -> int:
    """The process's own; it can only be read by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found
