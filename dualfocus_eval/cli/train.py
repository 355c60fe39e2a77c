"""From a recipe to a checkpoint that the harness evaluates."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.cli.recipes import given_recipe
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import check_writable
from dualfocus_eval.harness.arguments import check
from dualfocus_eval.recipe import Recipe

if TYPE_CHECKING:
    from dualfocus_eval.tiny.training.plan import TrainPlan
    from dualfocus_eval.training.tuning import TuningPlan

__all__ = ["main", "plan_of"]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print where the checkpoint is; 0 when it was written, 1 if some of the samples could not be read.

    Raises ``UserError`` for a wrong recipe, for data or a base that do not fit it, for a folder that cannot be written,
    for a loss that is not finite, and where memory runs out.
    """
    parser = argparse.ArgumentParser(prog="dualfocus train", description="Train a model from its recipe.")
    parser.add_argument("recipe", help="a recipe file, or the name of an included recipe")
    parser.add_argument(
        "--data", type=Path, default=Path(), help="folder of the recipe's data files (default: the current folder)"
    )
    parser.add_argument("--out", type=Path, help="folder for stages and the checkpoint (default: runs/<recipe>)")
    parser.add_argument(
        "--report-to",
        default="none",
        choices=("none", "tensorboard", "wandb"),
        help="where losses and scores are reported (default: none)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="do not train: print samples, tokens, steps, FLOPs, GPU hours and memory per device, and show which "
        "tokens of three samples contribute to the loss",
    )
    options = parser.parse_args(argv)
    if options.report_to != "none" and find_spec(options.report_to) is None:
        raise UserError(f"--report-to {options.report_to}: install it with `pip install {options.report_to}`")
    recipe = given_recipe(options.recipe)
    # The settings that the checkpoint will answer under; its name does not matter yet.
    check({"recipe": str(recipe.path), "pretrained": "trained"})
    from dualfocus_eval.training.tuning import TuningPlan

    plan, out = plan_of(recipe), options.out or Path("runs") / recipe.path.stem
    if options.dry_run:
        return _dry_run(recipe, plan, options.data, out)
    _check_writable(out)
    with _memory_named(out):
        if isinstance(plan, TuningPlan):
            from dualfocus_eval.training.finetune import finetune

            return 1 if finetune(recipe, plan, options.data, out, report_to=options.report_to).unusable else 0
        from dualfocus_eval.tiny.training.stages import train

        print(f"checkpoint: {train(recipe, plan, out)}")
    return 0


def plan_of(recipe: Recipe) -> TrainPlan | TuningPlan:
    """The validated plan of ``recipe``: with ``base`` from a checkpoint, without it from nothing.

    Raises ``UserError`` naming the key that is wrong.
    """
    from dualfocus_eval.tiny.training.plan import train_plan
    from dualfocus_eval.training.tuning import tuning_plan

    return tuning_plan(recipe) if "base" in recipe.train else train_plan(recipe)


def _dry_run(recipe: Recipe, plan: TrainPlan | TuningPlan, data: Path, out: Path) -> int:
    from rich.console import Console

    from dualfocus_eval.tiny.training.dry_run import dry_run_from_nothing
    from dualfocus_eval.training.dry_run import dry_run
    from dualfocus_eval.training.tuning import TuningPlan

    if isinstance(plan, TuningPlan):
        _check_writable(out)
        return 1 if dry_run(recipe, plan, data, out, Console()) else 0
    dry_run_from_nothing(plan, Console())
    return 0


def _check_writable(out: Path) -> None:
    """Raise ``UserError`` where nothing can be written to ``out``, before anything is read or trained."""
    try:
        check_writable(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}; choose another folder") from error


@contextmanager
def _memory_named(out: Path) -> Iterator[None]:
    """Out of memory is a matter of the recipe, and not a crash."""
    from dualfocus_eval.engines.device_memory import is_out_of_memory

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "out of memory: lower micro_batch_size or set gradient_checkpointing: true in the recipe, which do not "
            f"change the result; the same command then resumes from the last checkpoint in {out}"
        ) from error
