"""The knobs of curation: a recipe's ``inference`` keys on crops and prompt sets, and its ``curation`` section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field, StrictFloat
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.method.settings import CropRuleName, PromptSetName, Settings
from dualfocus_eval.recipe import Recipe

__all__ = ["CurationSettings", "curation_settings"]


@dataclass(frozen=True, config=CLOSED)
class CurationSettings:
    """How questions become samples."""

    prompt_set: PromptSetName = Settings.prompt_set
    """Of Q1 and Q2."""
    crop: CropRuleName = Settings.crop
    """How a box becomes whole pixels."""
    margin: Annotated[StrictFloat, Field(ge=0)] = Settings.margin
    """Pixels of the original image by which the squared box is enlarged on every side."""
    overlap: Annotated[StrictFloat, Field(gt=0, le=1)] = 0.5
    """An object counts as inside the box when at least this share of its area lies there."""


def curation_settings(recipe: Recipe | None, given: Mapping[str, Any]) -> CurationSettings:
    """Command option > recipe > default; entries of ``given`` that are None were not given.

    Raises ``UserError`` naming where the setting stands and what is allowed.
    """
    settings: dict[str, Any] = {}
    if recipe is not None:
        where = f"recipe {recipe.path}, curation"
        refuse_unknown(recipe.curation, ("overlap",), where, "key")
        names = [entry.name for entry in fields(CurationSettings)]
        settings = {name: recipe.inference[name] for name in names if name in recipe.inference} | dict(recipe.curation)
        validated(CurationSettings, settings, where)
    options = {name: value for name, value in given.items() if value is not None}
    return validated(CurationSettings, settings | options, "options")
