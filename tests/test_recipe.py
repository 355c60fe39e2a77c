from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.arguments import check, resolve
from dualfocus_eval.recipe import load_recipe, recipe_names
from dualfocus_eval.training.stage import base_config


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_checkpoint_is_relative_to_its_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "checkpoint: mine\ninference: {margin: 8}\ntrain: {steps: 3}\n"))
    assert recipe.pretrained == str(tmp_path / "mine")
    assert recipe.inference == {"margin": 8}
    assert recipe.train == {"steps": 3}


def test_pretrained_is_taken_as_it_stands(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "pretrained: owner/name\n")).pretrained == "owner/name"
    assert load_recipe(write(tmp_path, "")).pretrained is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checkpont: mine", r"unknown key 'checkpont'. Did you mean checkpoint\?"),
        ("inference: {selektion: own}", r"inference: unknown key 'selektion'. Did you mean selection\?"),
        ("checkpoint: a\npretrained: b", "exclude each other"),
        ("- a\n- b", "expected keys with values, found list"),
        ("inference: [1]", "inference: expected keys with values"),
        ("a: [", "cannot be read"),
        ("expected: {df_pope: high}", "expected, df_pope: 'high' is not a number"),
        ("expected: {df_pope: 101}", "expected, df_pope: 101 must be at least 0 and at most 100"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as refusal:
        load_recipe(path)
    assert str(path) in str(refusal.value)


def test_what_was_trained_is_what_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, "inference: {margin: 8}\ntrain: {base: owner/name}\n")
    with pytest.raises(UserError, match=r"runs/mine/checkpoint is not there: train it with `dualfocus train`"):
        check({"recipe": str(recipe)})
    (tmp_path / "runs" / "mine" / "checkpoint").mkdir(parents=True)
    config = resolve({"recipe": str(recipe)})
    assert config.engine.pretrained == "runs/mine/checkpoint"
    assert config.settings.margin == 8
    assert resolve({"recipe": str(recipe), "pretrained": str(tmp_path)}).engine.pretrained == str(tmp_path)


def test_scores_are_expected_of_tasks_that_exist() -> None:
    tasks = {path.stem for path in resource_folder("tasks").glob("*/*.yaml")}
    for name in recipe_names():
        assert set(load_recipe(name).expected) <= tasks


@pytest.mark.parametrize("name", ["no-such-recipe", "x" * 300])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match="neither a file nor one of"):
        load_recipe(name)


def test_a_mistyped_name_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"smolvlm2-2\.2b-base\. Did you mean qwen3-vl-8b-base\?$"):
        load_recipe("qwen3vl-8b-base")


def test_without_its_trained_model_a_recipe_names_that_of_the_model_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"or take recipe=qwen3-vl-8b-base, which is"):
        check({"recipe": "qwen3-vl-8b"})
    with pytest.raises(UserError, match=r"with pretrained=FOLDER$"):
        check({"recipe": "llava-1.5-13b"})


BASES = {
    "llava-1.5-7b-base": "llava",
    "qwen2.5-vl-7b-base": "qwen2_5_vl",
    "qwen3-vl-4b-base": "qwen3_vl",
    "qwen3-vl-8b-base": "qwen3_vl",
    "internvl3.5-8b-base": "internvl",
    "llava-onevision-7b-base": "llava_onevision",
    "gemma-3-12b-base": "gemma3",
    "smolvlm2-2.2b-base": "smolvlm",
}
"""The families of models that are evaluated as their authors released them."""


@pytest.mark.parametrize("name", BASES)
def test_a_base_model_has_its_family_s_convention_and_limits_that_apply(name: str) -> None:
    recipe, family = load_recipe(name), FAMILIES[BASES[name]]
    assert recipe.pretrained
    assert recipe.inference["box_convention"] == family.box_convention.name
    assert not {"min_pixels", "max_pixels"} & recipe.image_options.keys() or family.pixel_limits


def test_every_base_model_has_a_known_family() -> None:
    assert set(BASES) == {name for name in recipe_names() if name.endswith("-base")}


def test_images_have_the_same_size_in_training_and_evaluation() -> None:
    recipe = load_recipe("qwen3-vl-8b")
    assert base_config("base", recipe).max_pixels == recipe.inference["max_pixels"] == 1280 * 32 * 32
    assert base_config("base", recipe).min_pixels == recipe.inference["min_pixels"] == 256 * 32 * 32


def test_recipes_of_the_package_load() -> None:
    for name in recipe_names():
        assert load_recipe(name).path.stem == name
