"""``dualfocus models``: where the recipes are, and what one of them sets and promises."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dualfocus_eval.cli.recipes import given_recipe
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.recipe import Recipe, recipe_names

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the folder of the recipes, or one recipe's settings, published scores and estimated cost of training.

    Raises ``UserError`` for an unknown recipe.
    """
    parser = argparse.ArgumentParser(
        prog="dualfocus models",
        description="Print the folder of this package's recipes. Its subfolder accelerate has configurations for "
        "training with several processes: "
        'accelerate launch --config_file "$(dualfocus models)/accelerate/fsdp.yaml" ...',
        epilog=f"recipes: {', '.join(recipe_names())}",
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        help="print the settings, expected scores and estimated cost of this recipe (a name or a file) instead",
    )
    name = parser.parse_args(argv).recipe
    if name is None:
        print(resource_folder("models"))
    else:
        _show(given_recipe(name))
    return 0


def _show(recipe: Recipe) -> None:
    from rich.console import Console

    from dualfocus_eval.common.tables import Number, Table, print_table

    print(recipe.path)
    console = Console()
    checkpoint = recipe.pretrained or recipe.trained
    rows: tuple[tuple[str, str], ...] = (("pretrained", str(checkpoint)),) if checkpoint else ()
    rows += tuple((name, str(value)) for name, value in recipe.inference.items())
    if rows:
        print_table(Table("Settings", ("argument", "value"), (rows,)), console)
    if recipe.expected:
        scores = tuple((task, Number(score)) for task, score in recipe.expected.items())
        print_table(Table("Expected scores, as published", ("", "%"), (scores,)), console)
    if recipe.estimate:
        costs = tuple(
            (str(key).replace("_", " "), value if isinstance(value, int) else str(value))
            for key, value in recipe.estimate.items()
        )
        note = "Estimated from the published sizes of models and data; train --dry-run counts your data."
        print_table(Table("Training", ("", "estimate"), (costs,), (note,)), console)
