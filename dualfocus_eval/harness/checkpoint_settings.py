"""What a checkpoint or an adapter says of itself: its JSON files, in a folder or on the hub. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.engines.checkpoint_files import checkpoint_file, read_json
from dualfocus_eval.method.selection.calibration import CALIBRATION_FILE, is_calibration_file
from dualfocus_eval.recipe import inference_settings

__all__ = ["checkpoint_json", "checkpoint_settings"]


@dataclass(frozen=True, config=CLOSED)
class _File:
    """A checkpoint's or adapter's ``dualfocus.json``."""

    inference: Mapping[str, Any] = field(default_factory=dict)
    provenance: Any = None


def checkpoint_settings(checkpoint: str | None, revision: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that its ``dualfocus.json`` names, none where it has no such file, and warnings of old names.

    The file of a calibrated choice is the checkpoint's own, `CALIBRATION_FILE`; its path is resolved.
    """
    found = checkpoint_json(checkpoint, "dualfocus.json", revision) if checkpoint else {}
    where = f"{checkpoint}/dualfocus.json"
    file = validated(_File, found, where)
    settings, warnings = inference_settings(file.inference, f"{where}, inference")
    named = str(settings.get("selection", ""))
    if checkpoint and is_calibration_file(named):
        if named != CALIBRATION_FILE:
            raise UserError(
                f"{where}, inference, selection: {named!r:.80} is not {CALIBRATION_FILE}, the file beside it"
            )
        settings["selection"] = str(_path(checkpoint, named, revision) or Path(checkpoint) / named)
    return settings, warnings


def checkpoint_json(checkpoint: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a checkpoint folder or hub repository; empty when there is none. Raises ``CheckpointError``."""
    path = _path(checkpoint, name, revision)
    return read_json(path) if path is not None else {}


def _path(checkpoint: str, name: str, revision: str | None) -> Path | None:
    try:
        return checkpoint_file(checkpoint, name, revision)
    except CheckpointError:  # no such repository: the engine, which needs it, says so
        return None
