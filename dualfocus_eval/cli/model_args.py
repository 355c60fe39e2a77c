"""``NAME=VALUE,NAME=VALUE,...``, as ``--model_args`` and ``--gen_kwargs`` are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dualfocus_eval.common.errors import UserError

__all__ = ["parse_arguments", "plain_arguments"]


def plain_arguments(flag: str, given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The flag's arguments as far as they can be told without lmms-eval's parser, which takes seconds to import."""
    if not isinstance(given, str):
        return dict(given)
    if re.search(r"[\"'{\[]", given):
        return {}
    parts = [part.partition("=") for part in given.split(",") if part]
    for name, equals, _ in parts:
        if not equals:
            raise UserError(
                f"{flag}: {name!r} is not NAME=VALUE; a value with commas needs quotes that the shell leaves alone: "
                f"{flag} 'NAME=\"ONE,TWO\"'"
            )
    return {name.strip(): value for name, _, value in parts}


def parse_arguments(flag: str, given: str) -> dict[str, Any]:
    """All of the flag's arguments. Raises ``UserError`` for what is not NAME=VALUE,..."""
    if not given or (plain := plain_arguments(flag, given)):
        return plain if given else {}
    from lmms_eval.utils import simple_parse_args_string

    try:
        found: dict[str, Any] = simple_parse_args_string(given)
    except ValueError as error:
        raise UserError(f"{flag}: {given!r} is not NAME=VALUE,NAME=VALUE,...") from error
    return found
