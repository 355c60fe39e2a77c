"""What the note on a run's progress (`traces.progress`) takes from lmms-eval's requests and flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dualfocus_eval.harness.requests import Request

__all__ = ["documents_of", "scoring_arguments"]

_SCORING = ("include_path", "reasoning_tags")


def documents_of(requests: Iterable[Request]) -> dict[str, tuple[int, ...]]:
    """By task, in the order of the requests: the numbers of the documents asked about, each once."""
    found: dict[str, dict[int, None]] = {}
    for request in requests:
        found.setdefault(request.task, {})[request.doc_id] = None
    return {task: tuple(documents) for task, documents in found.items()}


def scoring_arguments(flags: Mapping[str, Any]) -> dict[str, str | list[Any]]:
    """Those of lmms-eval's arguments that scoring needs, where they are given."""
    return {name: value for name in _SCORING if isinstance(value := flags.get(name), str | list)}
