"""The memory of the device: what the prefix cache may take of it, and errors that say that it ran out."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.prefix_cache import GIB, default_budget

__all__ = ["is_device_failure", "is_out_of_memory", "prefix_cache_bytes"]


def prefix_cache_bytes(config: EngineConfig, model: Any) -> int:
    """The prefix cache's budget: ``prefix_cache_gib``, or the default for ``model`` and the memory that is free now."""
    if config.prefix_cache_gib is not None:
        return int(config.prefix_cache_gib * GIB)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return default_budget(weights, _free_memory(model.device))


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out, on a GPU or on the CPU."""
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in text for sign in ("not enough memory", "DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC")
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether an error says that the GPU has failed: every later operation on it would fail too."""
    return "CUDA error" in str(error)
