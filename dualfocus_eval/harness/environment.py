"""What a run was computed with: versions, processor, device, precision. Two equal environments give equal numbers."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["environment_of"]

_PACKAGES = ("dualfocus-eval", "lmms-eval", "torch", "torchvision", "transformers", "pillow", "numpy")


def environment_of(model: Any) -> dict[str, Any]:
    """Of ``model`` (a transformers model) in this process, as plain text and numbers for the results file."""
    device = torch.device(model.device)
    return {
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


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
