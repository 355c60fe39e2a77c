"""Qwen3.5, dense and mixture of experts."""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLProcessor,
)

from measurements.random_models.qwen import QWEN3_TEMPLATE, qwen

__all__ = ["BUILDERS"]

VISION = {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 48, "num_position_embeddings": 64}
TEXT = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.5,
    },
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}


def _qwen3_5() -> tuple[Any, Any]:
    return qwen(Qwen3VLProcessor, Qwen3_5Config, Qwen3_5ForConditionalGeneration, VISION, TEXT, QWEN3_TEMPLATE)


def _qwen3_5_moe() -> tuple[Any, Any]:
    classes = (Qwen3VLProcessor, Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration)
    return qwen(*classes, VISION, TEXT | EXPERTS, QWEN3_TEMPLATE)


BUILDERS = {"qwen3_5": _qwen3_5, "qwen3_5_moe": _qwen3_5_moe}
