"""Checkpoints to go on from: one counts only when all of it was written, whenever the run was killed."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from transformers.trainer_utils import sort_checkpoints

from dualfocus_eval.common.errors import UserError

__all__ = ["discard_incomplete", "keep_only", "last_checkpoint"]

logger = logging.getLogger(__name__)

_COMPLETE = "complete"
"""A file that is written last."""


def keep_only(checkpoint: Path) -> None:
    """Say that all of ``checkpoint`` is there, once it is on the disk, and then delete those before it."""
    for path in [*checkpoint.rglob("*"), checkpoint]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    (checkpoint / _COMPLETE).touch()
    for path in _checkpoints(checkpoint.parent):
        if path != checkpoint:
            # First of all it is no longer complete.
            (path / _COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(path)


def discard_incomplete(folder: Path) -> None:
    """Delete, and name, checkpoints in ``folder`` whose writing was broken off."""
    for path in _checkpoints(folder):
        if not (path / _COMPLETE).exists():
            logger.warning(f"{path.name} is passed over: its writing was broken off")
            shutil.rmtree(path)


def last_checkpoint(folder: Path, *, fsdp: bool = False) -> Path | None:
    """The latest complete checkpoint in ``folder``.

    Raises ``UserError`` where it was written under FSDP and training goes on without, or the other way round: its
    optimiser states would not load.
    """
    complete = [path for path in _checkpoints(folder) if (path / _COMPLETE).exists()]
    if not complete:
        return None
    last = complete[-1]
    if any(last.glob("pytorch_model_fsdp*")) != fsdp:
        before, now = ("without", "under") if fsdp else ("under", "without")
        raise UserError(
            f"{last} was written {before} FSDP and cannot go on {now} it; start as before, or delete {folder}"
        )
    return last


def _checkpoints(folder: Path) -> list[Path]:
    return [Path(path) for path in sort_checkpoints(str(folder))] if folder.is_dir() else []
