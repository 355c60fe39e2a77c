"""How ``dualfocus ask`` asks a question of a run again: the model arguments that make it the run's model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.scoring import run_argument
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT
from dualfocus_eval.harness.task_index import task_manager
from dualfocus_eval.method.selection.calibration import is_calibration

__all__ = ["asking_again"]

_ENGINE = (
    "pretrained", "revision", "peft", "dtype", "attn_implementation", "trust_remote_code", "base_url", "model",
    "image_aspect", "min_pixels", "max_pixels",
)  # fmt: skip
"""What of the engine's record decides an answer."""
_NOTHING: tuple[Any, ...] = (None, False, "auto", "checkpoint", [], ())


def asking_again(run: Run) -> dict[str, Any] | None:
    """``model_args`` for ``dualfocus ask``, and the tasks whose documents it finds; None for a run of another model."""
    if run.record is None:
        return None
    return {"model_args": ",".join(_arguments(run)), "tasks": _tasks(run)}


def _tasks(run: Run) -> list[str]:
    """Those that ``dualfocus ask``, which takes no ``--include_path``, can load too."""
    names = list(run.tasks)
    if not names or not run_argument(run.results, "include_path"):
        return names
    known = set(task_manager(names).all_tasks)
    return [name for name in names if name in known]


def _arguments(run: Run) -> Iterator[str]:
    record = run.record or {}
    engine = record["engine"]
    embedded = Path(run.model).name == EMBEDDED_CHECKPOINT  # which brings its recipe along
    if engine.get("base_url"):
        yield "engine=server"
    for name in _ENGINE:
        value = engine.get(name)
        if value not in _NOTHING and not (embedded and name == "pretrained"):
            yield _written(name, ",".join(value) if isinstance(value, list | tuple) else value)
    brought = ("argument",) if embedded else ("argument", "recipe")
    for name, value in run.settings.items():
        if record["settings_from"].get(name) in brought and not is_calibration(str(value)):
            yield _written(name, value)


def _written(name: str, value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f'{name}="{text}"' if "," in text else f"{name}={text}"
