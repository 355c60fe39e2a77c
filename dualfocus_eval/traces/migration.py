"""Decoded trace lines of older versions in the layout of today's.

- 2: completions carry their ``gap``, which is unknown in version 1.
- 3: traces carry their ``arithmetic``, which is unknown before.
- 4: ``grounding`` names its method, and its ``response`` (``a1`` before) may be missing; ``second_pass`` is named;
  selection rules have today's names (`common.old_names`), and decisions speak of options instead of letters.
"""

from __future__ import annotations

from typing import Any

from dualfocus_eval.common.old_names import current_rule

__all__ = ["migrated"]

_DECISIONS = {"only_valid_letter": "only_valid_option", "no_valid_letter": "no_valid_option"}


def migrated(found: dict[str, Any], version: int) -> dict[str, Any]:
    """``found`` as version ``version`` has it; today's lines come back as they are.

    What is wrong with the fields is left for validation to say. Raises ValueError for a version that is not known.
    """
    theirs = found["version"]
    if type(theirs) is not int or not 1 <= theirs <= version:
        raise ValueError(f"trace version {theirs!r}, this is version {version}")
    if theirs < 3:
        found["arithmetic"] = {}
    if theirs < 4:
        found["second_pass"] = "append_crop" if found.get("micro") is not None else None
        found["decision"] = _DECISIONS.get(found["decision"], found["decision"])
        _rename_rules(found["picks"])
        if isinstance(grounding := found["grounding"], dict):
            grounding["method"] = "text_box"
            if "a1" in grounding:
                grounding["response"] = grounding.pop("a1")
    found["version"] = version
    return found


def _rename_rules(picks: Any) -> None:
    if isinstance(picks, dict):
        for name in tuple(picks):
            picks[current_rule(name)] = picks.pop(name)
