"""The second pass: what the model is shown of the region."""

from __future__ import annotations

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.method.second_pass.append_crop import APPEND_CROP
from dualfocus_eval.method.second_pass.base import SecondPass
from dualfocus_eval.method.second_pass.fifth_patch import FIFTH_PATCH
from dualfocus_eval.method.second_pass.single_question import CROP_ONLY, JOINT
from dualfocus_eval.method.second_pass.without_crop import BLANK_CROP, NO_CROP

__all__ = ["SECOND_PASSES"]

SECOND_PASSES: Registry[SecondPass] = Registry(
    "dualfocus_eval.second_pass", "second pass", (APPEND_CROP, CROP_ONLY, JOINT, FIFTH_PATCH, NO_CROP, BLANK_CROP)
)
"""Every second pass by name: this package's own, and those that other packages register."""
