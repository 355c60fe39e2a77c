"""Where tasks/, models/ and reports/ are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["EMBEDDED_CHECKPOINT", "resource_folder"]

EMBEDDED_CHECKPOINT = "dualfocus-tiny"

_PACKAGE = Path(__file__).resolve().parents[1]


def resource_folder(name: Literal["tasks", "models", "reports"]) -> Path:
    """The folder of that name, which exists in every complete checkout and wheel."""
    installed = _PACKAGE / "_resources"
    return (installed if installed.is_dir() else _PACKAGE.parent) / name
