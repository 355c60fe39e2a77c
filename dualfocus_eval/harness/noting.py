"""The note on a run's progress (`traces.progress`), of lmms-eval's requests and flags."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from dualfocus_eval.harness.requests import Request
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.progress import Progress
from dualfocus_eval.traces.store import TraceStore

__all__ = ["documents_of", "progress_of", "scoring_arguments"]

_SCORING = ("include_path", "reasoning_tags")


def progress_of(
    requests: Iterable[Request],
    flags: Mapping[str, Any],
    store: TraceStore,
    settings: Settings,
    model: str,
    processes: int,
) -> Progress:
    """The note of a process that begins now to ask ``requests`` and to keep the answers in ``store``."""
    return Progress(
        started=time.time(),
        processes=processes,
        settings_key=store.settings_key,
        arithmetic=store.arithmetic,
        model=model,
        strategy=settings.strategy,
        selection=settings.selection,
        questions=documents_of(requests),
        arguments=scoring_arguments(flags),
        trace_bytes=store.size,
    )


def documents_of(requests: Iterable[Request]) -> dict[str, tuple[int, ...]]:
    """By task, in the order of the requests: the numbers of the documents asked about, each once."""
    found: dict[str, dict[int, None]] = {}
    for request in requests:
        found.setdefault(request.task, {})[request.doc_id] = None
    return {task: tuple(documents) for task, documents in found.items()}


def scoring_arguments(flags: Mapping[str, Any]) -> dict[str, str | list[Any]]:
    """Those of lmms-eval's arguments that scoring needs, where they are given."""
    return {name: value for name in _SCORING if isinstance(value := flags.get(name), str | list)}
