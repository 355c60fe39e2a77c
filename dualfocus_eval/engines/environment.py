"""What a run was computed with: versions, processor, device, precision. Two equal environments give equal numbers."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["COMPUTING", "arithmetic_of", "environment_of", "packages"]

COMPUTING = ("torch", "torchvision", "transformers", "tokenizers", "pillow", "numpy")
"""Packages on the way from a prompt and its images to an answer: another version may give another answer."""


def environment_of(model: Any) -> dict[str, Any]:
    """Of ``model`` (a transformers model) in this process, as plain text and numbers for the results file."""
    import torch

    device = torch.device(model.device)
    return {
        "packages": packages(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": _dtype(model),
        "attention": _attention(model),
    }


def packages() -> dict[str, str]:
    """Versions of the packages on the way from a question to its score."""
    return {name: version(name) for name in ("dualfocus-eval", "lmms-eval", *COMPUTING)}


def arithmetic_of(model: Any, *, adapter: bool = False) -> dict[str, str]:
    """The part of the environment that a stored answer must share to be reused, by name.

    ``adapter``: peft has merged an adapter into the model's weights.

    Batch size, number of threads and the processor's model are left out. They change the order in which numbers are
    added, and so the last bits of a logit: in float32 only ties may then go the other way. An interrupted run must be
    able to go on with a smaller batch, or on another machine of the same kind. `dualfocus regress`, which promises the
    same answers, takes all three into account.
    """
    import torch

    packages = (*COMPUTING, "peft") if adapter else COMPUTING
    return {name: version(name) for name in packages} | {
        "dtype": _dtype(model),
        "attention": _attention(model),
        "device": str(model.device.type),
        # Below "highest", products of float32 matrices are computed in TF32 or bfloat16.
        "float32_matmul": torch.get_float32_matmul_precision(),
    }


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _attention(model: Any) -> str:
    """The implementation that the model's parts use, which need not be the one that was asked for."""
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    used = {(type(config).__name__, str(getattr(config, "_attn_implementation", None))) for config in configs}
    implementations = {implementation for _, implementation in used}
    if len(implementations) == 1:
        return implementations.pop()
    return ", ".join(f"{part}: {implementation}" for part, implementation in sorted(used))


def _processor() -> str:
    """The first core's name and model number; virtual machines tell the name only roughly."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" not in fields:
        return platform.processor() or "unknown"
    return f"{fields['model name']} {fields.get('cpu family')}/{fields.get('model')}/{fields.get('stepping')}"
