"""Names of the version before this one, which its files and users still hold; they go with the next version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["OLD_RULES", "OLD_SETTINGS", "current_rule", "current_settings"]

OLD_RULES: Mapping[str, str] = {"own": "own_context", "micro": "micro_context"}
"""Selection rules."""
OLD_SETTINGS: Mapping[str, str] = {"wording": "prompt_set"}
"""Settings of the method."""


def current_rule(name: str) -> str:
    """Today's name of a selection rule."""
    return OLD_RULES.get(name, name)


def current_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a file holds, by today's names."""
    settings = {OLD_SETTINGS.get(name, name): value for name, value in stored.items()}
    if isinstance(rule := settings.get("selection"), str):
        settings["selection"] = current_rule(rule)
    return settings
