"""From a recipe to a checkpoint that the harness evaluates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.errors import UserError
from dualfocus_eval.recipe import load_recipe

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print where the checkpoint is; 0 when it was written. Raises ``UserError`` for a wrong recipe."""
    parser = argparse.ArgumentParser(prog="dualfocus train", description=__doc__)
    parser.add_argument("recipe", help="a recipe file, or the name of one that comes with the package")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the recipe's data files (default: here)")
    parser.add_argument("--out", type=Path, help="folder for stages and checkpoint (default: runs/<recipe>)")
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe)
    from dualfocus_eval.train.plan import train_plan
    from dualfocus_eval.train.tuning import TuningPlan

    plan, out = train_plan(recipe), options.out or Path("runs") / recipe.path.stem
    if isinstance(plan, TuningPlan):
        raise UserError("not yet")
    from dualfocus_eval.train.stages import train

    checkpoint = train(recipe, plan, out)
    print(f"checkpoint: {checkpoint}")
    return 0
