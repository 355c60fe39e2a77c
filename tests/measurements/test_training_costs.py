"""The estimates in the recipes are what the script says, and agree with what others measured."""

from __future__ import annotations

import pytest

from dualfocus_eval.training.costs import gpu_hours, stage_cost
from dualfocus_eval.training.flops import Load
from measurements.training_costs import ARCHITECTURES, WITH_IMAGE, estimate, figures

PUBLISHED = {
    "llava-1.5-7b": 7.06e9,
    "llava-1.5-7b-without-vg": 7.06e9,
    "llava-1.5-13b": 13.35e9,
    "share4v-13b": 13.35e9,
    "qwen2.5-vl-7b": 8.29e9,
    "qwen3-vl-8b": 8.77e9,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_recipe_has_the_estimates_of_the_script(name: str) -> None:
    recipe, size, _, _ = estimate(name)
    assert recipe.estimate == figures(name)
    assert sum(size.parameters.values()) == pytest.approx(PUBLISHED[name], rel=0.01)


@pytest.mark.parametrize(("name", "hours"), [("llava-1.5-7b", 80), ("llava-1.5-13b", 160)])
def test_llava_took_about_as_long_as_its_authors_say(name: str, hours: float) -> None:
    """About 10 and 20 hours on eight A100 for LLaVA-1.5's own mix, by its repository's README."""
    _, size, stage, _ = estimate(name)
    cost = stage_cost(size, stage, [(WITH_IMAGE, Load(576 + 250, 1, 576, 110)), (40_688, Load(1000, 0, 0, 600))])
    assert gpu_hours(cost.flops, "A100") == pytest.approx(hours, rel=0.4)
