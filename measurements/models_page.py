"""The models that are supported, and the recipes of published ones.

    python -m measurements.models_page --write

writes the tables into docs/models.md, and prints the sentence that README has. They are made of the registry of model
families and of the recipes in models/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.families import FAMILIES, Family
from dualfocus_eval.recipe import Recipe, load_recipe, recipe_names

__all__ = ["PAGE", "sentence", "tables"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


def tables() -> dict[str, str]:
    """A Markdown table of the families and one of the recipes, by their names on the page."""
    return {"families": _families(), "recipes": _recipes()}


def sentence() -> str:
    """README's list of the models."""
    titles = list(dict.fromkeys(family.title for family in FAMILIES if family.title))
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def _families() -> str:
    rows = ["| models | `model_type` | for example | boxes | prefix reuse | pixel limits | fine-tuning |"]
    rows.append("|---|---|---|---|---|---|---|")
    for family in FAMILIES:
        cells = (
            family.title,
            f"`{family.name}`",
            f"`{family.example}`" if family.example else "",
            f"`{family.box_convention.name}`" if family.trained_boxes else "not trained",
            _reuse(family),
            _yes(family.pixel_limits),
            _yes(family.training_template is not None),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _recipes() -> str:
    rows = ["| recipe | checkpoint | boxes | images |", "|---|---|---|---|"]
    for recipe in (load_recipe(name) for name in recipe_names()):
        if recipe.pretrained and not recipe.train:
            convention = f"`{recipe.inference['box_convention']}`"
            rows.append(f"| `{recipe.path.stem}` | `{recipe.pretrained}` | {convention} | {_images(recipe)} |")
    return "\n".join(rows)


def _reuse(family: Family) -> str:
    if family.no_reuse is not None:
        return family.no_reuse
    return "within a pass" if family.tiles_by_count else "yes"


def _images(recipe: Recipe) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in recipe.image_options.items()) or "as the processor does"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    options = parser.parse_args()
    made = tables()
    print("\n\n".join([sentence(), *made.values()]))
    if options.write:
        fill_page(PAGE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
