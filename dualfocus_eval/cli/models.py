"""``dualfocus models``: where the recipes are, and what one of them promises."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dualfocus_eval.cli.recipes import given_recipe
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.recipe import Recipe

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the folder of the recipes, or one recipe's published scores and what its training is estimated to cost.

    Raises ``UserError`` for an unknown recipe.
    """
    parser = argparse.ArgumentParser(
        prog="dualfocus models",
        description="Print the folder of this package's recipes. Its subfolder accelerate has configurations for "
        "training with several processes: "
        'accelerate launch --config_file "$(dualfocus models)/accelerate/fsdp.yaml" ...',
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        help="print the expected scores and estimated cost of this recipe (a name or a file) instead",
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
    if not recipe.expected and not recipe.estimate:
        print("This recipe has neither expected scores nor an estimate.")
