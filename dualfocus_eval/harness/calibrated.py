"""The calibrated choice of a run: read from its file, and held against the model that is to be judged by it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.selection.calibration import (
    Calibration,
    is_calibration,
    is_calibration_file,
    load_calibration,
)
from dualfocus_eval.method.settings import Settings, candidate_settings

__all__ = ["KnownModel", "fitting_calibration", "named_calibration", "refuse_other_model"]


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


class KnownModel(Protocol):
    """As much of a `running.RunEngine` as tells which model it runs."""

    @property
    def identity(self) -> str: ...
    @property
    def environment(self) -> Mapping[str, Any]: ...


def fitting_calibration(
    calibration: Calibration | None, settings: Settings, engine: KnownModel, source: str
) -> tuple[Calibration | None, Settings, tuple[str, ...]]:
    """What goes with the model of ``engine``: the calibration, the settings, and what the user is to be told.

    Raises ``UserError`` for a calibration of another model, or of features that these settings do not have. One that
    the checkpoint itself brings is left out there, and under all other settings than those of its fit: the default rule
    then decides. Of a server no files are known: it is taken to run the checkpoint that the user says it does.
    """
    if calibration is None or settings.strategy != "dualfocus":
        return None, settings, ()
    differing = _differing(calibration.settings, candidate_settings(asdict(settings)))
    of_other_settings = f"answers of other settings: {', '.join(differing)}"
    if source == "checkpoint":
        same_model = "server" in engine.environment or _is_of(calibration, engine.identity)
        if same_model and not differing:
            return calibration, settings, ()
        other = of_other_settings if same_model else f"another model ({calibration.model})"
        told = f"the checkpoint's own calibration was fitted on {other}: not used, selection={Settings.selection}"
        return None, replace(settings, selection=Settings.selection), (told,)
    refuse_other_model(calibration, engine.identity)
    _refuse_missing(calibration, settings)
    return calibration, settings, (f"{calibration.name} was fitted on {of_other_settings}",) if differing else ()


def _refuse_missing(calibration: Calibration, settings: Settings) -> None:
    if "grounding_response" in calibration.needs and not GROUNDING[settings.grounding].responds:
        raise UserError(
            f"{calibration.name} looks at the model's own words for the region, which grounding={settings.grounding} "
            "does not have: fit one on a run of this method (`dualfocus calibrate`), or choose another rule "
            "(selection=NAME)"
        )


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


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name} {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value]
