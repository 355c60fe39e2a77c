"""Qwen3.5, dense and mixture of experts.

Transformers computes the recurrent layers in float32 whatever the model's dtype, in chunks of tokens, so that where a
pass begins changes the rounding. In float64 the rule runs here token by token as it is written: what then differs is no
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe

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


def _remembering(model: Any, processor: Any) -> tuple[Any, Any]:
    """With states that decay slowly: the image still tells in the answer, and float32 keeps the sum of the decays."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("A_log"):
                weight.copy_(torch.linspace(0.01, 0.5, len(weight)).log())
    return model, processor


def _qwen3_5() -> tuple[Any, Any]:
    classes = (Qwen3VLProcessor, Qwen3_5Config, Qwen3_5ForConditionalGeneration)
    return _remembering(*qwen(*classes, VISION, TEXT, QWEN3_TEMPLATE))


def _qwen3_5_moe() -> tuple[Any, Any]:
    classes = (Qwen3VLProcessor, Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration)
    return _remembering(*qwen(*classes, VISION, TEXT | EXPERTS, QWEN3_TEMPLATE))


BUILDERS = {"qwen3_5": _qwen3_5, "qwen3_5_moe": _qwen3_5_moe}


def _delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gated delta rule over (rows, tokens, heads, size): outputs, and the state (rows, heads, key, value)."""
    repeats = value.shape[2] // key.shape[2]
    query, key = (
        (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)).repeat_interleave(repeats, dim=2) for x in (query, key)
    )
    query = query * query.shape[-1] ** -0.5
    state = value.new_zeros(*value.shape[:1], *value.shape[2:3], key.shape[-1], value.shape[-1])
    state = state if initial_state is None else initial_state.to(value)
    outputs = []
    for token in range(value.shape[1]):
        state = state * g[:, token].exp()[..., None, None]
        known = torch.einsum("rhkv,rhk->rhv", state, key[:, token])
        change = (value[:, token] - known) * beta[:, token].unsqueeze(-1)
        state = state + torch.einsum("rhk,rhv->rhkv", key[:, token], change)
        outputs.append(torch.einsum("rhkv,rhk->rhv", state, query[:, token]))
    return torch.stack(outputs, dim=1), state


def _exact_in_float64(original: Callable[..., Any]) -> Callable[..., Any]:
    def rule(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> Any:
        if value.dtype != torch.float64:
            return original(query, key, value, **kwargs)
        return _delta_rule(query, key, value, kwargs["g"], kwargs["beta"], kwargs["initial_state"])

    return rule


for module in (modeling_qwen3_5, modeling_qwen3_5_moe):
    for name in ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"):
        setattr(module, name, _exact_in_float64(getattr(module, name)))
