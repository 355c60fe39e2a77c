"""Qwen3-VL, dense and mixture of experts."""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
)

from measurements.random_models.qwen import QWEN3_TEMPLATE, qwen

__all__ = ["BUILDERS"]

VISION = {
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "depth": 3,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}
INTERLEAVED = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 3, 3],
        "mrope_interleaved": True,
    }
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [0]}


def _qwen3_vl() -> tuple[Any, Any]:
    return qwen(Qwen3VLProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, VISION, INTERLEAVED, QWEN3_TEMPLATE)


def _qwen3_vl_moe() -> tuple[Any, Any]:
    text = INTERLEAVED | EXPERTS
    return qwen(Qwen3VLProcessor, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, VISION, text, QWEN3_TEMPLATE)


BUILDERS = {"qwen3_vl": _qwen3_vl, "qwen3_vl_moe": _qwen3_vl_moe}
