"""The families that the engine knows. A new one is a module here and an entry in ``FAMILIES``."""

from __future__ import annotations

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.families.base import Family, ImageInputs
from dualfocus_eval.families.llava import LLAVA
from dualfocus_eval.families.llava_next import LLAVA_NEXT
from dualfocus_eval.families.qwen_vl import QWEN2_5_VL, QWEN2_VL

__all__ = ["FAMILIES", "Family", "ImageInputs", "family_for"]

FAMILIES: dict[str, Family] = {family.model_type: family for family in (LLAVA, LLAVA_NEXT, QWEN2_VL, QWEN2_5_VL)}


def family_for(model_type: str, checkpoint: str) -> Family:
    """The family of a checkpoint by its configuration's ``model_type``; ``CheckpointError`` when there is none."""
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise CheckpointError(
            f"{checkpoint}: model_type {model_type!r} is not supported; supported are {', '.join(FAMILIES)}"
        ) from None
