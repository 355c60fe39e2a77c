import json
from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.arguments import ARGUMENTS, check, resolve
from dualfocus_eval.recipe import load_recipe


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("checkpoint: checkpoint\ninference: {strategy: micro, margin: 3, prompt_set: format1}\n")
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"selecton": "own_context"}, "Did you mean selection?"),
        ({"zzz": 1}, "Known: adaptive_nll, "),
        ({"selection": "best"}, "not one of: own_context, micro_context, released"),
        ({"batch_size": "auto"}, "batch_size: auto is not supported"),
        ({"batch_size": "auto:4"}, "Give a number"),
        ({"batch_size": 0}, "batch_size: 0 must be at least 1"),
        ({"batch_size": 2.5}, "not a whole number"),
        ({"margin": "wide"}, "margin: 'wide' is not a number"),
        ({"score_all": "maybe"}, "not true or false"),
        ({"batch_size": True}, "'True' is not a whole number"),
        ({"margin": "inf"}, "margin: 'inf' must be a finite number and at least 0"),
        ({"box_convention": "bbox2d_1000"}, "internvl, glm4v, gemma4. Did you mean bbox_2d_1000?"),
        ({"dtype": "int8"}, "dtype: 'int8' is not one of: auto, float32"),
        ({"strategy": None}, "strategy: a value is needed"),
        ({"wording": "released", "prompt_set": "format1"}, "wording is the old name of prompt_set"),
        ({"base_url": "http://a:1"}, "base_url is an argument of engine=server only: add engine=server"),
        (
            {"engine": "server", "base_url": "http://a:1", "dtype": "float16"},
            "dtype is an argument of engine=in_process only: leave it out, a server is started with its own",
        ),
        ({"recipe": "no-such"}, "neither a file nor one of"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_loaded(given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        check(given)


def test_the_documented_arguments_exist() -> None:
    documented = (
        "pretrained revision peft device device_map dtype attn_implementation batch_size max_batch_size strategy "
        "selection adaptive_nll recipe prefix_cache_gib trace_dir trace_images system_prompt min_pixels max_pixels "
        "trust_remote_code"
    )
    assert set(documented.split()) <= set(ARGUMENTS)


def test_argument_over_recipe_over_checkpoint_over_family(checkpoint: Path, recipe: Path) -> None:
    inference = {"margin": 7, "prompt_set": "figure8", "jitter_seed": 5}
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": inference}))
    config = resolve({"recipe": str(recipe), "strategy": "macro"})
    settings, sources = config.settings, config.sources
    assert (settings.strategy, sources["strategy"]) == ("macro", "argument")
    assert (settings.margin, sources["margin"]) == (3.0, "recipe")
    assert (settings.prompt_set, sources["prompt_set"]) == ("format1", "recipe")
    assert (settings.jitter_seed, sources["jitter_seed"]) == (5, "checkpoint")
    assert (settings.box_convention, sources["box_convention"]) == ("qwen2_5_vl", "family")
    assert (settings.crop, sources["crop"]) == ("full", "default")
    assert Path(config.engine.pretrained) == checkpoint


def test_without_recipe_the_checkpoint_speaks(checkpoint: Path) -> None:
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": {"adaptive_nll": 0.25, "image_aspect": "pad"}}))
    config = resolve({"pretrained": str(checkpoint)})
    assert config.settings.adaptive_nll == 0.25
    assert config.engine.image_aspect == "pad"
    assert resolve({"pretrained": str(checkpoint), "adaptive_nll": "none"}).settings.adaptive_nll is None


def test_a_wrong_key_in_the_checkpoint_is_named_with_its_file(checkpoint: Path) -> None:
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": {"margins": 7}}))
    with pytest.raises(UserError, match=r"dualfocus.json, inference: unknown key 'margins'. Did you mean margin\?"):
        resolve({"pretrained": str(checkpoint)})


def test_a_wrong_value_is_named_with_its_source(checkpoint: Path) -> None:
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": {"crop": "round"}}))
    with pytest.raises(UserError, match=r"dualfocus\.json, inference, crop: 'round' is not one of: full, released"):
        resolve({"pretrained": str(checkpoint)})


def test_the_adapter_speaks_after_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": {"margin": 1, "jitter_seed": 1}}))
    (adapter / "dualfocus.json").write_text(json.dumps({"inference": {"margin": 2}}))
    settings = resolve({"pretrained": str(checkpoint), "peft": str(adapter)}).settings
    assert (settings.margin, settings.jitter_seed) == (2, 1)


def test_a_batch_of_questions_is_twice_as_many_conversations(checkpoint: Path) -> None:
    config = resolve({"pretrained": str(checkpoint), "batch_size": 3, "max_batch_size": 64})
    assert (config.batch_size, config.engine.max_conversations) == (3, 6)


def test_padding_is_not_a_server_s_to_do(checkpoint: Path) -> None:
    served = {"engine": "server", "base_url": "http://localhost:1", "model": "m", "pretrained": str(checkpoint)}
    assert not any("image_aspect" in warning for warning in resolve(served).warnings)
    warned = resolve(served | {"recipe": "llava-1.5-7b"}).warnings
    assert "image_aspect=pad has no effect: a server shows images as its own processor does it" in warned


def test_text_that_lmms_eval_turned_into_numbers_is_text_again(checkpoint: Path) -> None:
    assert resolve({"pretrained": str(checkpoint), "revision": 123}).engine.revision == "123"
    assert resolve({"pretrained": str(checkpoint), "system_prompt": '"Be brief, please"'}).system_prompt == (
        "Be brief, please"
    )


def test_a_system_prompt_may_be_a_file(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.\n")
    config = resolve({"pretrained": str(checkpoint), "system_prompt": str(tmp_path / "system.txt")})
    assert config.system_prompt == "Be brief."


def test_a_config_json_of_nonsense_is_the_user_s_mistake_or_the_engine_s_to_refuse(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        resolve({"pretrained": str(checkpoint)})
    (checkpoint / "config.json").write_text('{"model_type": ["llava"]}')
    resolve({"pretrained": str(checkpoint)})


def test_without_a_word_on_the_model_it_is_the_embedded_one_with_its_recipe() -> None:
    config = resolve({"strategy": "macro"})
    recipe = load_recipe("dualfocus-tiny")
    assert config.engine.pretrained == recipe.pretrained
    assert config.settings.margin == recipe.inference["margin"]
    assert config.sources["margin"] == "recipe"


def test_a_recipe_of_settings_alone_speaks_for_the_embedded_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("inference: {margin: 99}")
    config = resolve({"recipe": str(tmp_path / "wide.yaml")})
    assert config.engine.pretrained == load_recipe("dualfocus-tiny").pretrained
    assert config.settings.margin == 99


def test_old_names_are_read_for_one_version_with_a_warning_each(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "dualfocus.json").write_text(json.dumps({"inference": {"wording": "figure8"}}))
    (tmp_path / "old.yaml").write_text("checkpoint: checkpoint\ninference: {selection: own}\n")
    config = resolve({"recipe": str(tmp_path / "old.yaml"), "wording": "format1"})
    assert (config.settings.prompt_set, config.sources["prompt_set"]) == ("format1", "argument")
    assert (config.settings.selection, config.sources["selection"]) == ("own_context", "recipe")
    assert [warning.partition(";")[0] for warning in config.warnings] == [
        "--model_args: wording is now called prompt_set",
        f"recipe {tmp_path / 'old.yaml'}, inference: selection=own is now called own_context",
        f"{checkpoint}/dualfocus.json, inference: wording is now called prompt_set",
    ]
    assert check({"selection": "micro"}) == (
        "--model_args: selection=micro is now called micro_context; the next version no longer knows micro",
    )
    assert resolve({"pretrained": str(checkpoint), "selection": "micro_context"}).settings.prompt_set == "figure8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inferences": {}}, r"dualfocus\.json: unknown key 'inferences'\. Did you mean inference\?"),
        ({"inference": [1]}, r"dualfocus\.json, inference: expected keys with values, found list"),
        ({"inference": {"margin": -3}}, r"dualfocus\.json, inference, margin: -3 must be at least 0"),
        ({"inference": {"batch_size": 3}}, r"dualfocus\.json, inference: unknown key 'batch_size'"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_s_own_settings(checkpoint: Path, content: object, message: str) -> None:
    (checkpoint / "dualfocus.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        resolve({"pretrained": str(checkpoint)})
