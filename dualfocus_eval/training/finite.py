"""A number that is not a number ends training, by name: a loss, a gradient norm, or a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor
from torch.distributed.tensor import DTensor

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.checkpoint_files import is_finite

__all__ = ["DivergedError", "refuse_non_finite", "refuse_non_finite_weights"]


class DivergedError(UserError):
    """Training has left the range of numbers; nothing of that step is saved or exported."""


def refuse_non_finite(name: str, value: float, *, step: int, folder: Path, learning_rate: float, half: bool) -> None:
    """Raise `DivergedError` where ``value``, the loss or norm called ``name``, is NaN or infinite.

    ``folder`` is the stage's, ``half`` whether it computes in bfloat16.
    """
    if math.isfinite(value):
        return
    precision = " or set precision: fp32" if half else ""
    raise DivergedError(
        f"stage {folder.name}, step {step}: {name} is {value}; nothing is exported, and the last checkpoint is "
        f"kept. Lower learning_rate ({learning_rate:g}){precision}, and delete {folder} or choose another --out"
    )


def refuse_non_finite_weights(weights: Iterable[tuple[str, Tensor]], place: str) -> None:
    """Raise `DivergedError` for NaN or infinite values among ``weights`` of ``place``, with the first name and the
    count. Of weights that processes share out, each looks at its own part.
    """
    broken = [name for name, weight in weights if not _is_finite(weight)]
    if broken:
        raise DivergedError(
            f"{place}: {len(broken)} weights have NaN or infinite values, {broken[0]} first; lower learning_rate, or "
            "take another base"
        )


def _is_finite(weight: Tensor) -> bool:
    own = weight.to_local() if isinstance(weight, DTensor) else weight
    return not own.is_floating_point() or is_finite(own)
