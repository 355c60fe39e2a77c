"""LoRA adapters: every weight lands, under the names of any version of transformers, or the adapter is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.engines.adapters import merge_adapter
from dualfocus_eval.families import FAMILIES
from measurements.random_models import build

TODAY = "base_model.model.model.language_model."
LANGUAGE = r".*language_model.*\.(q_proj|v_proj)"
FILE = "adapter_model.safetensors"

Weights = dict[str, torch.Tensor]


def trained(architecture: str, folder: Path, **options: Any) -> Weights:
    """Save an adapter with random weights to ``folder``; the weights of the model that it is merged into."""
    torch.manual_seed(0)
    options = {"r": 4, "lora_alpha": 8, "target_modules": LANGUAGE} | options
    tuned = get_peft_model(build(architecture)[0], LoraConfig(**options))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    tuned.save_pretrained(folder)
    return weights_of(tuned.merge_and_unload())


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def merged(architecture: str, folder: Path) -> Weights:
    return weights_of(merge_adapter(build(architecture)[0], str(folder), FAMILIES[architecture]))


def rename(folder: Path, old: str, new: str) -> None:
    rewrite(folder, lambda weights: {key.replace(old, new): value for key, value in weights.items()})


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    save_file(change(load_file(folder / FILE)), folder / FILE)


def configure(folder: Path, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def assert_same(got: Weights, right: Weights) -> None:
    assert got.keys() == right.keys()
    assert all(torch.allclose(got[name], right[name], atol=1e-5) for name in right)


@pytest.mark.parametrize(
    ("architecture", "then"),
    [
        ("qwen2_5_vl", "base_model.model.model."),  # before transformers 4.52
        ("qwen2_vl", "base_model.model.model."),
        ("llava", "base_model.model.language_model.model."),
        ("llava_next", "base_model.model.language_model.model."),
        ("mistral3", "base_model.model.language_model.model."),
        ("mistral3", "base_model.model.model."),  # trained on the language model alone
        ("llava", "base_model.model.model."),  # trained on the language model alone
        ("llava", TODAY),
    ],
)
def test_every_weight_lands_under_the_names_of_then(architecture: str, then: str, tmp_path: Path) -> None:
    right = trained(architecture, tmp_path)
    rename(tmp_path, TODAY, then)
    assert_same(merged(architecture, tmp_path), right)


def test_a_list_of_targets_means_the_modules_of_the_model_that_was_trained(tmp_path: Path) -> None:
    # LLaVA's vision tower has q_proj and v_proj too; the language model alone had no tower. Alphas follow the names.
    patterns = {"model.language_model.layers.1.self_attn.q_proj": 32}
    right = trained("llava", tmp_path, alpha_pattern=patterns)
    rename(tmp_path, TODAY, "base_model.model.model.")
    then = {"model.layers.1.self_attn.q_proj": 32}
    configure(tmp_path, target_modules=["q_proj", "v_proj"], alpha_pattern=then)
    assert_same(merged("llava", tmp_path), right)


def test_the_vision_tower_s_earlier_names(tmp_path: Path) -> None:
    right = trained("llava", tmp_path, target_modules=["q_proj"])
    rename(tmp_path, "model.vision_tower.", "model.vision_tower.vision_model.")
    assert_same(merged("llava", tmp_path), right)


@pytest.mark.parametrize(("architecture", "whole"), [("llava", "multi_modal_projector"), ("qwen2_5_vl", "merger")])
def test_weights_that_are_saved_whole_land_too(architecture: str, whole: str, tmp_path: Path) -> None:
    right = trained(architecture, tmp_path, modules_to_save=[whole])
    assert_same(merged(architecture, tmp_path), right)


@pytest.mark.parametrize("prefix", [TODAY, "base_model.model.language_model.model."])
def test_an_embedding_in_the_file_lands(prefix: str, tmp_path: Path) -> None:
    right = trained("llava", tmp_path)
    right["model.language_model.embed_tokens.weight"].fill_(0.25)
    embedding = right["model.language_model.embed_tokens.weight"].clone()
    rewrite(tmp_path, lambda weights: weights | {f"{TODAY}embed_tokens.weight": embedding})
    rename(tmp_path, TODAY, prefix)
    assert_same(merged("llava", tmp_path), right)


def test_an_adapter_with_an_effect_beside_its_factors_is_merged(tmp_path: Path) -> None:
    right = trained("llava", tmp_path, modules_to_save=["multi_modal_projector"], lora_alpha=0)
    with pytest.raises(CheckpointError, match="changes none of the model's weights"):
        merged("llava", tmp_path)
    bias = "model.multi_modal_projector.linear_1.bias"
    right[bias] += 1
    rewrite(tmp_path, lambda weights: weights | {f"base_model.model.{bias}": right[bias]})
    assert_same(merged("llava", tmp_path), right)


def test_a_layer_without_an_effect_is_no_fault(tmp_path: Path) -> None:
    right = trained("llava", tmp_path, alpha_pattern={"layers.1.self_attn.q_proj": 0})
    assert_same(merged("llava", tmp_path), right)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        merged("llava", tmp_path / "none")


def without(part: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda w: {key: value for key, value in w.items() if part not in key})


def number(value: float) -> Callable[[Path], None]:
    def change(weights: Weights) -> Weights:
        next(iter(weights.values())).view(-1)[0] = value
        return weights

    return lambda folder: rewrite(folder, change)


CASES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a layer under another number": (
        lambda folder: rename(folder, "layers.1.", "layers.9."),
        ["4 weights (", "layers.1.", "missing from it", "layers.9.", "not of the model"],
    ),
    "a layer is missing": (without("layers.1."), ["4 weights (", "layers.1.", "missing from it; take the base"]),
    "old names, a layer is missing": (
        lambda folder: rewrite(
            folder, lambda w: {k.replace(TODAY, "base_model.model."): v for k, v in w.items() if "layers.1." not in k}
        ),
        ["missing from it"],
    ),
    "a weight of no module": (
        lambda folder: rewrite(folder, lambda w: w | {"base_model.model.gate.lora_A.weight": torch.ones(2, 2)}),
        ["does not fit the model: base_model.model.gate.lora_A.weight is not of the model"],
    ),
    "a resized embedding": (
        lambda folder: rewrite(folder, lambda w: w | {f"{TODAY}embed_tokens.weight": torch.ones(500, 64)}),
        ["embed_tokens.weight has shape (500, 64)"],
    ),
    "another rank": (lambda folder: configure(folder, r=2), ["shape (4, 64)", "(2, 64)"]),
    "weights beside it": (
        lambda folder: (folder / "non_lora_trainables.bin").write_bytes(b"x"),
        ["non_lora_trainables.bin", "merge"],
    ),
    "cut off": (
        lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-100]),
        [FILE, "cut off or damaged"],
    ),
    "empty": (lambda folder: (folder / FILE).write_bytes(b""), [FILE, "cut off or damaged"]),
    "NaN": (number(float("nan")), ["NaN"]),
    "scaling 0": (lambda folder: configure(folder, lora_alpha=0), ["changes none of the model's weights"]),
    "every lora_B is zero": (
        lambda folder: rewrite(folder, lambda w: {k: v * 0 if "lora_B" in k else v for k, v in w.items()}),
        ["changes none of the model's weights", "leave peft out"],
    ),
    "no weights": (lambda folder: (folder / FILE).unlink(), [FILE, "missing"]),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), ["adapter_config.json is missing"]),
    "a type that is not known": (lambda folder: configure(folder, peft_type="MAGIC"), ["adapter_config.json"]),
    "a rank in words": (
        lambda folder: configure(folder, r="two"),
        ["adapter_config.json: r is 'two'; a whole number is needed"],
    ),
    "a broken rank": (lambda folder: configure(folder, r=4.5), ["adapter_config.json: r is 4.5; a whole"]),
    "a list of scales": (lambda folder: configure(folder, lora_alpha=[8]), ["lora_alpha is [8]; a number"]),
    "no dropout": (lambda folder: configure(folder, lora_dropout=None), ["lora_dropout is None; a number"]),
    "a rank for all": (lambda folder: configure(folder, rank_pattern=4), ["rank_pattern is 4; names of modules"]),
    "a module's rank in words": (
        lambda folder: configure(folder, rank_pattern={"q_proj": "two"}),
        ["adapter_config.json: rank_pattern: q_proj is 'two'; a whole"],
    ),
    "other wrong types": (lambda folder: configure(folder, target_modules=8), ["cannot be"]),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), ["adapter_config.json", "list"]),
    "deep": (lambda folder: (folder / "adapter_config.json").write_text("[" * 99_999), ["cannot be read"]),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    trained("llava", folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_that_names_the_fault(case: str, sound: Path, tmp_path: Path) -> None:
    spoil, words = CASES[case]
    for path in sound.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        merged("llava", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    for part in words:
        assert part in message


def test_an_adapter_of_the_inputs_is_refused(tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, token_dim=64, num_layers=3)
    config.save_pretrained(tmp_path)
    save_file({"prompt_embeddings": torch.ones(2, 64)}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"peft_type PROMPT_TUNING .* only adapters of the weights"):
        merged("llava", tmp_path)


def test_a_head_that_is_the_embedding_too_is_not_merged_into(tmp_path: Path) -> None:
    trained("llava", tmp_path, target_modules=["lm_head"])
    model, _ = build("llava")
    model.lm_head.weight = model.get_input_embeddings().weight
    with pytest.raises(CheckpointError, match="lm_head, whose weight the model shares"):
        merge_adapter(model, str(tmp_path), FAMILIES["llava"])
