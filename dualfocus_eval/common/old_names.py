"""Names of the version before this one, which its files and users still hold; they go with the next version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualfocus_eval.common.errors import UserError

__all__ = ["current_rule", "current_settings", "renamed"]

OLD_RULES: Mapping[str, str] = {"own": "own_context", "micro": "micro_context"}
"""Selection rules."""
OLD_SETTINGS: Mapping[str, str] = {"wording": "prompt_set"}
"""Settings of the method."""


def current_rule(name: str) -> str:
    """Today's name of a selection rule."""
    return OLD_RULES.get(name, name)


def current_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a file holds, by today's names.

    ``jitter`` once moved the boxes of ``text_box``, which is now another grounding method.
    """
    settings = {OLD_SETTINGS.get(name, name): value for name, value in stored.items()}
    if isinstance(rule := settings.get("selection"), str):
        settings["selection"] = current_rule(rule)
    if settings.get("jitter") and settings.get("grounding", "text_box") == "text_box":
        settings["grounding"] = "shifted"
    return settings


def renamed(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``values`` of settings by today's names, and a warning for each old name in them.

    Raises ``UserError`` where a setting is given by both of its names.
    """
    warnings = []
    for old, new in OLD_SETTINGS.items():
        if old in values and new in values:
            raise UserError(f"{where}: {old} is the old name of {new}; give {new} alone")
        if old in values:
            warnings.append(f"{where}: {old} is now called {new}; the next version no longer knows {old}")
    rule = values.get("selection")
    if isinstance(rule, str) and rule in OLD_RULES:
        new = OLD_RULES[rule]
        warnings.append(f"{where}: selection={rule} is now called {new}; the next version no longer knows {rule}")
    if values.get("jitter") and "grounding" not in values:
        warnings.append(f"{where}: jitter now needs grounding=shifted; the next version no longer adds it")
    return current_settings(values), tuple(warnings)
