"""A calibrated choice in a finished run: where it comes from, and of which questions it may be judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.runs import Fault, Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.calibrated import refuse_other_model
from dualfocus_eval.method.selection.calibration import Calibration, is_calibration, read_calibration

__all__ = ["calibration_of", "fitted_on", "unseen"]


def calibration_of(record: Mapping[str, Any] | None, given: Calibration | None, path: Path) -> Calibration | None:
    """The choice that decided the run whose ``record`` the results file ``path`` holds, or the one that is ``given``.

    Raises ``UserError`` for a damaged one, and where the given one cannot judge this run.
    """
    own = (record or {}).get("calibration")
    decided = is_calibration(str((record or {}).get("settings", {}).get("selection")))
    found = read_calibration(own, f"{path}: the calibration of the run") if own and decided else None
    if given is None or (found and found.name == given.name):
        return found
    if record is None:
        raise UserError(f"{path} is not of --model dualfocus: a calibration has nothing to choose between there")
    if found:
        raise UserError(
            f"{path} was decided by {found.name}: {given.name} cannot stand beside it; run again with selection=FILE, "
            "which finds all answers in the traces"
        )
    refuse_other_model(given, str(record.get("checkpoint")))
    return given


def unseen(run: Run, rows: pd.DataFrame) -> np.ndarray:
    """Which of the questions are about images that the run's calibration was not fitted on; (questions,) of bool."""
    if run.calibration is None:
        return np.ones(len(rows), dtype=bool)
    return np.array([not run.calibration.has_seen(str(image)) for image in rows["cluster"]], dtype=bool)


def fitted_on(run: Run) -> list[Fault]:
    """That questions are about images which the run's calibration was fitted on."""
    count = int((~unseen(run, run.answers)).sum())
    what = "questions are about images that the calibrated choice was fitted on: their scores are no test of it"
    return [Fault(count, what, harmless=True)] if count else []
