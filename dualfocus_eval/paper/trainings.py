"""The same recipe with and without the samples of Visual Genome (table 10)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.paper.comparing import Row, macro_row, row_section
from dualfocus_eval.paper.experiment import Preparation, Request, Runs, RunSpec
from dualfocus_eval.paper.shared import TWO_PASSES
from dualfocus_eval.recipe import Recipe, load_recipe, recipe_names
from dualfocus_eval.report.section import Section

__all__ = ["training_preparations", "training_runs", "training_sections"]

_SUFFIX = "-without-vg"
_PRETRAINED = re.compile(r"(?:^|,)\s*pretrained\s*=")
_WITHOUT = RunSpec("without_vg", {"strategy": "macro"})


def training_preparations(request: Request) -> Sequence[Preparation]:
    """The two trainings."""
    return [Preparation(_command(recipe), _cost(recipe), _is_trained(recipe)) for recipe in _recipes(request)]


def training_runs(request: Request) -> Sequence[RunSpec]:
    """Those of both; a run whose checkpoint has yet to be trained is marked."""
    with_samples, without = _recipes(request)
    return (
        replace(TWO_PASSES, trained=_is_trained(with_samples)),
        replace(_WITHOUT, recipe=_name(without), trained=_is_trained(without)),
    )


def training_sections(runs: Runs) -> Sequence[Section]:
    """Table 10: macro answers after both trainings, and the two passes that the samples make possible."""
    own, without = runs.get(TWO_PASSES.name), runs.get(_WITHOUT.name)
    macro, missing = "macro, trained with the samples", "not trained yet"
    rows = (
        Row("macro, trained without the samples", without, missing),
        macro_row(macro, own) if own else Row(macro, None, missing),
        Row("two passes, trained with the samples", own, missing),
    )
    text = (
        "The same training with and without the samples of Visual Genome. The paper adds them to the LLaVA-1.5 "
        "baseline and does not say in which form; here they are the two-round samples of DualFocus."
    )
    return (row_section("Training with and without Visual Genome", text, rows),)


def _recipes(request: Request) -> tuple[Recipe, Recipe]:
    """Those with and without the samples. Raises ``UserError`` for a recipe without the second."""
    if _PRETRAINED.search(request.model_args):
        raise UserError(f"table10 compares two trainings of a recipe: in --model_args take {_known()}, not pretrained")
    given = load_recipe(request.recipe or EMBEDDED_CHECKPOINT)
    beside = given.path.with_name(f"{given.path.stem}{_SUFFIX}.yaml")
    if not beside.is_file():
        raise UserError(
            f"table10 compares recipe {request.recipe} with the same training without the samples of Visual Genome, "
            f"and there is no recipe {beside}: write it, or take {_known()}"
        )
    return given, load_recipe(beside)


def _known() -> str:
    names = recipe_names()
    return " or ".join(f"recipe={name}" for name in names if f"{name}{_SUFFIX}" in names)


def _name(recipe: Recipe) -> str:
    """As a command takes it: the name of a recipe of the package, the path of another."""
    included = recipe.path.parent == resource_folder("models")
    return recipe.path.stem if included else str(recipe.path)


def _command(recipe: Recipe) -> str:
    """``data`` is the folder of the recipe's data files."""
    data = ["--data", "data"] if "base" in recipe.train else []
    return shlex.join(["dualfocus", "train", _name(recipe), *data])


def _cost(recipe: Recipe) -> str:
    """By the recipe's estimate."""
    estimate = recipe.estimate
    if "gpu_hours" in estimate:
        return f"{estimate['samples']:,} samples, {estimate['gpu_hours']} {estimate['gpu']} hours"
    if "hours" in estimate:
        return f"{estimate['samples']:,} samples, {estimate['hours']} hours on {estimate['cores']} CPU cores"
    return "cost not estimated; --dry-run counts it"


def _is_trained(recipe: Recipe) -> bool:
    return recipe.pretrained is not None or (recipe.trained is not None and recipe.trained.is_dir())
