"""The recipe that a command was given."""

from __future__ import annotations

import sys

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.recipe import Recipe, load_recipe

__all__ = ["given_recipe"]


def given_recipe(name_or_path: str) -> Recipe:
    """Read a recipe and print what the user is to be warned of. Raises ``UserError`` for one that cannot be used.

    An evaluation does not need this: its run shows the warnings.
    """
    recipe = load_recipe(name_or_path)
    for warning in recipe.warnings:
        print(one_line(f"warning: {warning}"), file=sys.stderr)
    return recipe
