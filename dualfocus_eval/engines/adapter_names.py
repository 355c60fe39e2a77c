"""Adapters that were saved when the model's modules had other names."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch

from dualfocus_eval.families import Family

__all__ = ["PREFIX", "in_todays_names"]

PREFIX = "base_model.model."
"""What peft puts before the names of the model's own weights."""
_ADAPTED = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv2d, torch.nn.Conv3d)
"""The modules that a LoRA may stand beside."""
OldNames = Mapping[str, str]
"""Prefixes of today's module names, and what they were when an adapter was saved; see `Family.older_names`."""


def in_todays_names(
    model: Any, config: Any, weights: Mapping[str, torch.Tensor], family: Family
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Configuration and weights with the names that the model's modules have today.

    The first naming under which the modules that the configuration asks for are those of the file; without one both
    stay as they are, and what does not fit is named when the weights are loaded.
    """
    from peft import PeftType

    if config.peft_type != PeftType.LORA or not config.target_modules:
        return config, dict(weights)
    modules = [name for name, module in model.named_modules() if isinstance(module, _ADAPTED)]
    unchanged = {name: name for name in modules}
    if _modules_of(weights) == set(_targets(config, unchanged)):
        return config, dict(weights)
    for names in family.older_names:
        renamed = {PREFIX + _today(key.removeprefix(PREFIX), names): value for key, value in weights.items()}
        then = {name: old for name in modules if (old := _then(name, names)) is not None}
        # The configuration may have been brought up to date without the weights.
        for matched in (then, {name: name for name in then}):
            targets = _targets(config, matched)
            if targets and _modules_of(renamed) == set(targets):
                return _retargeted(config, targets), renamed
    return config, dict(weights)


def _modules_of(weights: Mapping[str, torch.Tensor]) -> set[str]:
    """The modules that a LoRA file has weights for."""
    return {key.removeprefix(PREFIX).partition(".lora_")[0] for key in weights if ".lora_" in key}


def _targets(config: Any, names: Mapping[str, str]) -> dict[str, str]:
    """The modules that ``config`` asks for among ``names``: today's name, and the one that it is to match by."""
    from peft.tuners.tuners_utils import check_target_module_exists

    return {today: then for today, then in names.items() if check_target_module_exists(config, then)}


def _retargeted(config: Any, targets: Mapping[str, str]) -> Any:
    """``config`` for exactly ``targets``, with the ranks and alphas that it gave them under their names of then."""
    from peft.utils.other import get_pattern_key

    changed = copy.copy(config)
    changed.target_modules = set(targets)
    changed.exclude_modules = changed.layers_to_transform = changed.layers_pattern = None
    for field in ("rank_pattern", "alpha_pattern"):
        pattern = getattr(config, field) or {}
        found = {today: pattern.get(get_pattern_key(list(pattern), then)) for today, then in targets.items()}
        setattr(changed, field, {re.escape(today): value for today, value in found.items() if value is not None})
    return changed


def _then(module: str, names: OldNames) -> str | None:
    """What ``module`` was called, or None where it was not part of the model."""
    for today, then in names.items():
        if f"{module}.".startswith(today):
            return (then + f"{module}.".removeprefix(today)).removesuffix(".")
    return None


def _today(key: str, names: OldNames) -> str:
    for today, then in names.items():
        if key.startswith(then):
            return today + key.removeprefix(then)
    return key
