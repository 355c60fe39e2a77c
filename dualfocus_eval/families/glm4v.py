"""GLM-4.1V, GLM-4.5V and GLM-4.6V: pictures and rotary positions as Qwen2.5-VL's, boxes in thousandths.

Their processors count every picture as two frames, so that ``min_pixels`` and ``max_pixels`` are twice its area.
"""

from __future__ import annotations

from dualfocus_eval.families.base import Family
from dualfocus_eval.families.conventions import GLM4V_BOX
from dualfocus_eval.families.qwen_vl import encode, encoded_size, grid, positions

__all__ = ["FAMILIES", "GLM4V", "GLM4V_MOE", "GLM46V"]


def _family(model_type: str, example: str) -> Family:
    return Family(
        model_type=model_type,
        box_convention=GLM4V_BOX,
        # Around whatever the final answer is, a box or not. Their tokenizers do not have them as special tokens.
        answer_marks=("<|begin_of_box|>", "<|end_of_box|>"),
        encode=encode,
        encoded_size=encoded_size,
        grid=grid,
        positions=positions,
        pixel_limits=True,
        vision_tower="model.visual",
        connector="model.visual.merger",
        title="GLM-4.1V to 4.6V",
        example=example,
    )


GLM4V = _family("glm4v", "zai-org/GLM-4.1V-9B-Thinking")
GLM4V_MOE = _family("glm4v_moe", "zai-org/GLM-4.5V")
GLM46V = _family("glm46v", "zai-org/GLM-4.6V")

FAMILIES = (GLM4V, GLM4V_MOE, GLM46V)
