"""Which weights are of which part, where the connector is several modules."""

from __future__ import annotations

from dualfocus_eval.families import FAMILIES
from dualfocus_eval.training.parts import part_of, prepare_training
from dualfocus_eval.training.tuning import Lora
from measurements.random_models import build
from tests.training.test_flops import stage

MERGERS = ("model.visual.merger.", "model.visual.deepstack_merger_list.0.", "model.visual.deepstack_merger_list.1.")


def test_all_of_qwen3_vls_mergers_are_its_connector() -> None:
    model, family = build("qwen3_vl")[0], FAMILIES["qwen3_vl"]
    parts = {name: part_of(name, family) for name, _ in model.named_parameters()}
    assert {name for name, part in parts.items() if part == "connector"} == {
        name for name in parts if name.startswith(MERGERS)
    }
    assert parts["model.visual.patch_embed.proj.weight"] == "vision_tower"
    assert parts["model.language_model.norm.weight"] == parts["lm_head.weight"] == "language_model"


def test_adapters_leave_all_of_them_trainable() -> None:
    model = build("qwen3_vl")[0]
    connector = sorted(weight.numel() for name, weight in model.named_parameters() if name.startswith(MERGERS))
    tuned = prepare_training(model, FAMILIES["qwen3_vl"], stage(lora=Lora(2, 4.0)))
    trained = {name: weight for name, weight in tuned.named_parameters() if weight.requires_grad}
    adapters = {name for name in trained if ".lora_" in name}
    assert adapters
    assert all("language_model" in name for name in adapters)
    assert sorted(weight.numel() for name, weight in trained.items() if name not in adapters) == connector
