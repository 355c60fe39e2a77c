"""The knobs of curation: a recipe's ``inference`` keys on crops and prompt sets, and its ``curation`` section."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.method.crops import CROP_RULES
from dualfocus_eval.method.prompts import PROMPT_SETS
from dualfocus_eval.recipe import Recipe

__all__ = ["CurationSettings", "curation_settings"]


@dataclass(frozen=True)
class CurationSettings:
    """How questions become samples. Raises ``UserError`` naming the setting and its allowed values."""

    prompt_set: str = "released"
    """Of Q1 and Q2: a name in ``method.prompts.PROMPT_SETS``."""
    crop: str = "full"
    margin: float = 25.0
    """Pixels of the original image by which the squared box is enlarged on every side."""
    overlap: float = 0.5
    """An object counts as inside the box when at least this share of its area lies there."""

    def __post_init__(self) -> None:
        for name, allowed in (("prompt_set", PROMPT_SETS), ("crop", CROP_RULES)):
            value = getattr(self, name)
            if value not in allowed:
                raise UserError(f"{name}={value!r} is not one of: {', '.join(allowed)}")
        if not (_is_number(self.margin) and self.margin >= 0):
            raise UserError(f"margin={self.margin!r} must be a finite number of pixels, 0 or more")
        if not (_is_number(self.overlap) and 0 < self.overlap <= 1):
            raise UserError(f"overlap={self.overlap!r} must be a share above 0 and at most 1")


def curation_settings(recipe: Recipe | None, given: Mapping[str, Any]) -> CurationSettings:
    """Command option > recipe > default; entries of ``given`` that are None were not given. Raises ``UserError``."""
    settings: dict[str, Any] = {}
    if recipe is not None:
        names = [entry.name for entry in fields(CurationSettings)]
        refuse_unknown(recipe.curation, ("overlap",), f"recipe {recipe.path}, curation", "key")
        settings = {name: recipe.inference[name] for name in names if name in recipe.inference} | dict(recipe.curation)
    return CurationSettings(**(settings | {name: value for name, value in given.items() if value is not None}))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
