"""A loaded model with all that the engine needs to know about it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from dualfocus_eval.common.errors import CheckpointError, first_line
from dualfocus_eval.engines.identity import digest_in_memory
from dualfocus_eval.engines.masks import AttentionMasks, attention_masks
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import Family

__all__ = ["Checkpoint", "end_tokens", "prepare"]

_NO_LIMIT = 2**31
"""The longest sequence of a model whose configuration names none."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with all that the engine needs to know about it."""

    model: Any
    processor: Any
    family: Family
    generation_config: Any
    """The checkpoint's own, for greedy decoding."""
    end_ids: frozenset[int]
    default_end_id: int
    layers: int
    """Those with states of their own, which the layers after them, if any, share; 0 where transformers' generate keeps
    the states."""
    recurrent: frozenset[int]
    """Those of them that keep a recurrent state in place of keys and values."""
    masks: AttentionMasks | None
    max_positions: int
    no_reuse: str | None
    """Why the key/value states of a prompt's beginning cannot serve another prompt, where they cannot."""
    thinking: ThinkingFormat | None
    """How it marks what it thinks before it answers; None for a checkpoint without such markers."""
    name: str
    """What to call it; no part of its identity."""
    digest: str
    """`identity.engine_digest`: of everything in it that can change an answer."""
    adapted: bool = False
    """Whether peft has merged an adapter into its weights."""


def prepare(
    model: Any, processor: Any, family: Family, name: str, digest: str | None = None, *, adapted: bool = False
) -> Checkpoint:
    """A ``Checkpoint`` of a model and processor in memory.

    Without the ``digest`` of the files that they were loaded from, all the weights are hashed.
    """
    model.eval().requires_grad_(False)
    if model.dtype == torch.float64:
        model.set_experts_implementation("eager")  # torch's grouped products have no float64
    text_config = model.config.get_text_config()
    layers = _layers(model, family, name)
    settings, end_ids = _generation_settings(model, processor.tokenizer, model.name_or_path or name)
    return Checkpoint(
        model=model,
        processor=processor,
        family=family,
        generation_config=settings,
        end_ids=frozenset(end_ids),
        default_end_id=end_ids[0],
        layers=len(layers),
        recurrent=frozenset(index for index, kind in enumerate(layers) if kind is LinearAttentionLayer),
        masks=attention_masks(model.config, family, name) if family.engine == "in_process" else None,
        max_positions=getattr(text_config, "max_position_embeddings", None) or _NO_LIMIT,
        no_reuse=family.no_reuse,
        thinking=ThinkingFormat.of(processor, family.thinking),
        name=name,
        digest=digest or digest_in_memory(model, processor),
        adapted=adapted,
    )


def end_tokens(settings: Any, tokenizer: Any, rows: int, name: str) -> list[int]:
    """The tokens that end an answer by the checkpoint's generation ``settings``, the one that texts get first.

    Raises ``CheckpointError`` for what is none of the embedding's ``rows``.
    """
    ends = settings.eos_token_id if settings.eos_token_id is not None else tokenizer.eos_token_id
    end_ids = list(ends) if isinstance(ends, (list, tuple)) else [] if ends is None else [ends]
    if not end_ids:
        raise CheckpointError(f"{name}: neither generation_config.json nor the tokenizer names an end token")
    for end in end_ids:
        if type(end) is not int or not 0 <= end < rows:
            raise CheckpointError(
                f"{name}: eos_token_id in generation_config.json has {end!r}, but token ids are whole numbers from 0 "
                f"to {rows - 1}"
            )
    return end_ids


def _layers(model: Any, family: Family, name: str) -> list[type]:
    """What transformers keeps the states of each layer in, but for layers that share those of another."""
    if family.engine == "generate":
        return []
    layers = DynamicCache(config=model.config).layers
    while isinstance(layers[-1], DummyLayer):
        layers.pop()
    kinds = [type(layer) for layer in layers]
    several = any(getattr(layer, "number_of_states", 1) > 1 for layer in layers)
    if several or not set(kinds) <= {DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer}:
        raise CheckpointError(f"{name}: its decoder keeps states of a kind that is not supported")
    return kinds


def _generation_settings(model: Any, tokenizer: Any, name: str) -> tuple[Any, list[int]]:
    """The checkpoint's own settings, for greedy decoding, and the tokens that end an answer."""
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False
    end_ids = end_tokens(settings, tokenizer, model.get_input_embeddings().weight.shape[0], name)
    settings.eos_token_id = end_ids
    try:
        model._prepare_special_tokens(settings, kwargs_has_attention_mask=True, device=model.device)
        model._get_logits_processor(copy.copy(settings), input_ids_seq_length=1, device=model.device)
    except Exception as error:  # a wrong type of a setting shows only where transformers uses it
        raise CheckpointError(f"{name}: generation_config.json cannot be used: {first_line(error)}") from error
    return settings, end_ids
