"""The folder of a run as it looks while the run answers, written by the store and the note of the product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dualfocus_eval.engines.base import Completion, Failure
from dualfocus_eval.traces.progress import Progress, write_progress
from dualfocus_eval.traces.record import Fallback, ImageInfo, Trace
from dualfocus_eval.traces.store import TraceStore

__all__ = ["ARITHMETIC", "KEY", "TASK", "failed", "fallen", "note", "put", "trace"]

KEY, ARITHMETIC, TASK = "settings", {"torch": "2.15.0"}, "df_scenes_mini"
STARTED = 1_000_000.0


def trace(number: int, macro: str = "yes", micro: str | None = None, *, task: str = TASK, **changed: object) -> Trace:
    """The answer to one question; two questions are about one image."""
    answers = {
        "macro": _completion(macro),
        "micro": _completion(micro) if micro is not None else None,
        "selected": "macro" if micro is None else "micro",
    }
    values: dict[str, object] = {"settings_key": KEY, "arithmetic": ARITHMETIC} | answers | changed
    image = ImageInfo(f"{number // 2:032x}", 64, 48)
    return Trace(key=f"{task}/{number}", question_digest=f"q{number}", kind="short", images=(image,), **values)  # type: ignore[arg-type]


def failed(number: int, kind: str = "out_of_memory", message: str = "the batch does not fit") -> Trace:
    return trace(number, macro="", selected=None, error=Failure(kind, message))


def fallen(number: int, macro: str = "yes") -> Trace:
    return trace(number, macro, fallback=Fallback.CROP_TOO_SMALL)


def _completion(text: str) -> Completion:
    return Completion(text, (1, 0), (-0.5, -0.5), "eos")


def put(folder: Path, traces: Sequence[Trace], *, rank: int = 0) -> Path:
    """Append traces to a rank's file."""
    with TraceStore(folder, KEY, arithmetic=ARITHMETIC, rank=rank) as store:
        for one in traces:
            store.put(one)
        return store.path


def note(
    folder: Path,
    questions: Mapping[str, Sequence[int]],
    *,
    rank: int = 0,
    processes: int = 1,
    started: float = STARTED,
    model: str = "a model",
    strategy: str = "dualfocus",
) -> Path:
    """Note that a process begins to ask; what is in its trace file already is of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"traces.rank{rank:04d}.jsonl"
    progress = Progress(
        started=started,
        processes=processes,
        settings_key=KEY,
        arithmetic=ARITHMETIC,
        model=model,
        strategy=strategy,
        selection="own_context",
        questions={task: tuple(documents) for task, documents in questions.items()},
        arguments={},
        trace_bytes=file.stat().st_size if file.exists() else 0,
    )
    return write_progress(folder, progress, rank)
