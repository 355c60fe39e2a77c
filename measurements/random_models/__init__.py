"""Small vision-language models with random weights, built in code: every architecture that the engine supports.

The weights are drawn with a large spread, so that the next-token distributions are far from flat and answers differ in
content and length. Tokenizer, processor and chat template are built here too: nothing is downloaded. A module of this
package names its architectures in ``BUILDERS``, each with a function that returns (model, processor).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

__all__ = ["ARCHITECTURES", "build"]

Builder = Callable[[], tuple[Any, Any]]


def _builders() -> dict[str, Builder]:
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != "parts")
    found = [importlib.import_module(f"{__name__}.{name}").BUILDERS for name in modules]
    return {name: builder for builders in found for name, builder in builders.items()}


ARCHITECTURES: dict[str, Builder] = _builders()


def build(architecture: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Any, Any]:
    """(model, processor) of ``architecture`` with random weights; the same weights for the same seed in every dtype.

    Several tokens end an answer, so that answers differ in length; Qwen2.5-VL has a repetition penalty, as its
    published checkpoints have.
    """
    torch.manual_seed(seed)
    model, processor = ARCHITECTURES[architecture]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                spread = 0.5 if "lm_head" in name or "embed_tokens" in name else 0.15
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            elif name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
        # Nothing generates a picture's placeholder: a plain generate could not tell it from a picture's.
        others = (getattr(processor, "video_token_id", None), getattr(model.config, "audio_token_id", None))
        placeholder = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        placeholders = [token for token in (placeholder, *processor.image_token_ids, *others) if token is not None]
        model.lm_head.weight[placeholders] = 0.0
    ends = torch.randperm(len(processor.tokenizer) - 20, generator=generator)[:14] + 20
    model.generation_config = GenerationConfig(
        eos_token_id=[processor.tokenizer.eos_token_id, *sorted(ends.tolist())],
        pad_token_id=processor.tokenizer.eos_token_id,
        repetition_penalty=1.1 if architecture == "qwen2_5_vl" else None,
    )
    return model.to(dtype).eval(), processor
