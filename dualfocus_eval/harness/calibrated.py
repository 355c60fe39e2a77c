"""The calibrated choice of a run: read from its file, and held against the model that is to be judged by it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.selection.calibration import (
    Calibration,
    is_calibration,
    is_calibration_file,
    load_calibration,
)
from dualfocus_eval.method.settings import Settings, candidate_settings

__all__ = ["fitting_calibration", "named_calibration", "refuse_other_model"]


def named_calibration(values: MutableMapping[str, Any]) -> Calibration | None:
    """The calibration whose file the setting ``selection`` names, which then has its name; None for a rule.

    Raises ``UserError`` for a file that cannot be used.
    """
    selection = values.get("selection")
    if not isinstance(selection, str):
        return None
    if is_calibration(selection):
        raise UserError(f"selection={selection} is the name of a calibrated choice: give its file, selection=FILE.json")
    if not is_calibration_file(selection):
        return None
    found = load_calibration(Path(selection).expanduser())
    values["selection"] = found.name
    return found


def fitting_calibration(
    calibration: Calibration | None, settings: Settings, engine: RunEngine, source: str
) -> tuple[Calibration | None, Settings, tuple[str, ...]]:
    """What goes with the model of ``engine``: the calibration, the settings, and what the user is to be told.

    Raises ``UserError`` for a calibration of another model. One that the checkpoint itself brings is left out there,
    since an adapter or an image option makes another model of it; the default rule then decides. Of a server no files
    are known: it is taken to run the checkpoint that the user says it does.
    """
    if calibration is None or settings.strategy != "dualfocus":
        return None, settings, ()
    own = source == "checkpoint"
    if own and "server" in engine.environment:
        return calibration, settings, _told(calibration, settings)
    if own and not _is_of(calibration, engine.identity):
        told = f"the checkpoint's own calibration was fitted on another model ({calibration.model}): not used"
        return None, replace(settings, selection=Settings.selection), (f"{told}, selection={Settings.selection}",)
    refuse_other_model(calibration, engine.identity)
    return calibration, settings, _told(calibration, settings)


def refuse_other_model(calibration: Calibration, identity: str) -> None:
    """Raise ``UserError`` where ``identity`` (`RunEngine.identity`) is not the model that it was fitted on."""
    if not _is_of(calibration, identity):
        raise UserError(
            f"{calibration.name} was fitted on another model, {calibration.model}; this one is {identity}: fit one on "
            "a run of this model (`dualfocus calibrate`), or choose another rule (selection=NAME)"
        )


def _is_of(calibration: Calibration, identity: str) -> bool:
    """The name of a checkpoint's folder is no part of the model."""
    return calibration.model.rpartition("-")[2] == identity.rpartition("-")[2]


def _told(calibration: Calibration, settings: Settings) -> tuple[str, ...]:
    differing = _differing(calibration.settings, candidate_settings(asdict(settings)))
    if not differing:
        return ()
    return (f"{calibration.name} was fitted on answers of other settings: {', '.join(differing)}",)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name} {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value]
