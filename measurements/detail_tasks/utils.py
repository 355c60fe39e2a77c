"""Which questions `df_scenes_details` has."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.harness.task_functions import undecoded

__all__ = ["details"]


def details(dataset: Any) -> Any:
    """The rows of the level ``detail``."""
    levels = dataset["level"]
    return undecoded(dataset.select([number for number, level in enumerate(levels) if level == "detail"]))
