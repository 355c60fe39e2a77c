"""Qwen3.5, dense and mixture of experts: three layers of four keep a recurrent state in place of keys and values."""

from __future__ import annotations

from dualfocus_eval.families.base import Family
from dualfocus_eval.families.conventions import BBOX_2D_1000
from dualfocus_eval.families.qwen_vl import encode, encoded_size, grid, positions

__all__ = ["FAMILIES", "QWEN3_5", "QWEN3_5_MOE"]


def _family(model_type: str, example: str) -> Family:
    return Family(
        model_type=model_type,
        box_convention=BBOX_2D_1000,
        encode=encode,
        encoded_size=encoded_size,
        grid=grid,
        positions=positions,
        pixel_limits=True,
        vision_tower="model.visual",
        connector="model.visual.merger",
        title="Qwen3.5",
        example=example,
    )


QWEN3_5 = _family("qwen3_5", "Qwen/Qwen3.5-4B")
QWEN3_5_MOE = _family("qwen3_5_moe", "Qwen/Qwen3.5-35B-A3B")

FAMILIES = (QWEN3_5, QWEN3_5_MOE)
