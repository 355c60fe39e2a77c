"""The vision towers that are known by name, and what their weights are called on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlavaConfig

from dualfocus_eval.convert.hub_layout import TOWER, Target, padded_rows, targets, tower_config
from dualfocus_eval.convert.source import SourceCheckpoint, WeightFiles
from measurements.original_llava import config


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("openai/clip-vit-large-patch14-336", 577),
        ("openai/clip-vit-large-patch14", 257),
        ("Lin-Chen/ShareGPT4V-13B_Pretrained_vit-large336-l12", 577),
        ("/somewhere/models/ShareGPT4V-7B_Pretrained_vit-large336-l12/", 577),
    ],
)
def test_known_vision_towers(name: str, positions: int) -> None:
    source = SourceCheckpoint(Path("x"), config(mm_vision_tower=name), WeightFiles((), {}))
    tower = tower_config(source, inside=True, folder=None)
    assert (tower.num_attention_heads, tower.hidden_act) == (16, "quick_gelu")
    text = LlamaConfig(vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    found = targets(LlavaConfig(vision_config=tower, text_config=text), vocabulary=50)
    hub = "vision_tower.vision_model."
    for key, shape in {
        "embeddings.position_embedding.weight": (positions, 1024),
        "embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        "encoder.layers.23.mlp.fc1.weight": (4096, 1024),
        "pre_layrnorm.weight": (1024,),
    }.items():
        assert found[TOWER + key] == Target(hub + key, shape)
    assert found["model.mm_projector.2.weight"] == Target("multi_modal_projector.linear_2.weight", (8, 8))
    assert found["lm_head.weight"] == Target("language_model.lm_head.weight", (50, 8))
    assert found["model.norm.weight"] == Target("language_model.model.norm.weight", (8,))


def test_rows_are_the_hubs() -> None:
    assert padded_rows(vocabulary=32000, tokens=32002) == 32064
    assert padded_rows(vocabulary=32064, tokens=32002) == 32064
