"""The families of models that the engine knows.

A new family is one module of this package with its `Family` objects in ``FAMILIES``; another package registers its own
under the entry-point group ``dualfocus_eval.families``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.registry import Registry
from dualfocus_eval.families.base import Family, Forward, ImageInputs, ThinkingMarkers
from dualfocus_eval.families.conventions import PUBLISHED, Convention
from dualfocus_eval.families.generic import generic_family

__all__ = [
    "FAMILIES",
    "Family",
    "Forward",
    "ImageInputs",
    "ThinkingMarkers",
    "box_conventions",
    "family_for",
    "family_of",
]

_NOT_FAMILIES = ("base", "conventions", "generic", "grids")


def _own() -> tuple[Family, ...]:
    """The families of this package's modules, by the names of the modules."""
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name not in _NOT_FAMILIES)
    return tuple(family for name in modules for family in importlib.import_module(f"{__name__}.{name}").FAMILIES)


FAMILIES: Registry[Family] = Registry("dualfocus_eval.families", "model family", _own())


def family_of(model_type: str) -> Family:
    """The family of that ``model_type``, or the generic one, whether or not transformers knows such models."""
    return FAMILIES.items.get(model_type) or generic_family(model_type)


def family_for(model_type: str, checkpoint: str) -> Family:
    """The family of a checkpoint by its configuration's ``model_type``; the generic one where none has it.

    Raises ``CheckpointError`` for models that transformers does not load for images and text, and ``UserError`` where
    the family brings another box convention under a name that is taken: its boxes would be misread in silence.
    """
    _refuse_taken_name(FAMILIES.items.get(model_type))
    if missing := FAMILIES.missing.get(model_type):
        raise CheckpointError(f"{checkpoint}: model_type {model_type!r} cannot be used: {missing}")
    if model_type not in FAMILIES:
        _refuse_unless_vision_language(model_type, checkpoint)
    return family_of(model_type)


def _refuse_unless_vision_language(model_type: str, checkpoint: str) -> None:
    from transformers.models.auto import modeling_auto as auto

    if model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"{checkpoint}: model_type {model_type!r} is a language model without a vision part; choose a checkpoint "
            "of a vision-language model"
        )
    raise CheckpointError(
        f"{checkpoint}: model_type {model_type!r} is not supported; supported are {', '.join(FAMILIES.items)}, and "
        "what AutoModelForImageTextToText of the installed transformers loads"
    )


def _refuse_taken_name(family: Family | None) -> None:
    if family and box_conventions()[family.box_convention.name] != family.box_convention:
        raise UserError(
            f"model family {family.name!r} brings a box convention named {family.box_convention.name!r}, which is "
            "another one's name already: rename it in the package that registers the family"
        )


def box_conventions() -> Mapping[str, Convention]:
    """Every box convention by name: the published ones and those that families bring, of equal names the first."""
    found: dict[str, Convention] = {}
    for convention in (*PUBLISHED, *(family.box_convention for family in FAMILIES)):
        found.setdefault(convention.name, convention)
    return found
