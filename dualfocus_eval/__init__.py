"""DualFocus for lmms-eval: answer from the whole image, answer from a zoomed sub-region, keep the surer one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualfocus_eval.api.answer import Answer
    from dualfocus_eval.api.model import Model, load
    from dualfocus_eval.api.runs import FinishedRun, RunComparison, compare, judge, read_run
    from dualfocus_eval.common.errors import UserError

__all__ = ["Answer", "FinishedRun", "Model", "RunComparison", "UserError", "compare", "judge", "load", "read_run"]

__version__ = "0.1.0"

# Imported at their first use, so that ``import dualfocus_eval`` loads nothing else.
_HOMES = {
    "Answer": "api.answer",
    "FinishedRun": "api.runs",
    "Model": "api.model",
    "RunComparison": "api.runs",
    "UserError": "common.errors",
    "compare": "api.runs",
    "judge": "api.runs",
    "load": "api.model",
    "read_run": "api.runs",
}
"""The module of each public name, below this package."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
