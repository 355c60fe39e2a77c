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

__all__ = ["FAMILIES", "Family", "Forward", "ImageInputs", "ThinkingMarkers", "box_conventions", "family_for"]


def _own() -> tuple[Family, ...]:
    """The families of this package's modules, by the names of the modules."""
    modules = sorted(
        found.name for found in pkgutil.iter_modules(__path__) if found.name not in ("base", "conventions")
    )
    return tuple(family for name in modules for family in importlib.import_module(f"{__name__}.{name}").FAMILIES)


FAMILIES: Registry[Family] = Registry("dualfocus_eval.families", "model family", _own())


def family_for(model_type: str, checkpoint: str) -> Family:
    """The family of a checkpoint by its configuration's ``model_type``; ``CheckpointError`` when there is none.

    Raises ``UserError`` where it brings another box convention under a name that is taken: its boxes would be misread
    in silence.
    """
    _refuse_taken_name(FAMILIES.items.get(model_type))
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    missing = FAMILIES.missing.get(model_type)
    reason = f"cannot be used: {missing}" if missing else "is not supported"
    known = ", ".join(FAMILIES.items)
    raise CheckpointError(f"{checkpoint}: model_type {model_type!r} {reason}; supported are {known}")


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
