"""Make lmms-eval's task manager index our tasks folder, with no flag and no variable, and its tasks fit for our model.

lmms-eval offers models through entry points, but tasks only through ``--include_path``. Evaluation loads the entry
points before it builds its task manager, so that code which runs then can still extend the manager.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.building import adapt_building
from dualfocus_eval.harness.stop_texts import tell_stop_texts_apart
from dualfocus_eval.harness.structure import read_structure

__all__ = ["index_our_tasks", "prepared_config", "task_manager", "tasks_indexed_once"]

_MODULE = "lmms_eval.tasks"
_indices: ContextVar[dict[tuple[Any, ...], Any] | None] = ContextVar("task_indices", default=None)


def index_our_tasks() -> None:
    """Extend ``lmms_eval.tasks.TaskManager`` by our folder, now or as soon as it is imported; repeated calls are free.

    A task of the same name in lmms-eval or in the user's ``--include_path`` wins over ours.
    """
    module = sys.modules.get(_MODULE)
    if module is not None:
        _extend(module)
    elif not any(isinstance(finder, _ExtendWhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtendWhenImported())


def task_manager(names: Sequence[str], include_path: Sequence[str] = ()) -> Any:
    """lmms-eval's task manager, which knows every one of ``names`` there is, in the folders ``include_path`` too."""
    from lmms_eval.tasks import TaskManager

    index_our_tasks()
    # Indexing lmms-eval's own thousands of YAMLs takes many times as long as ours.
    folders = [*include_path, str(resource_folder("tasks"))]
    manager = TaskManager("ERROR", folders, include_defaults=False, model_name="dualfocus")
    known = set(names) <= set(manager.all_tasks)
    return manager if known else TaskManager("ERROR", list(include_path) or None, model_name="dualfocus")


@contextmanager
def tasks_indexed_once() -> Iterator[None]:
    """Let the runs in the block share one index of all tasks; else each reads lmms-eval's thousands of YAMLs anew."""
    token = _indices.set({})
    try:
        yield
    finally:
        _indices.reset(token)


def _extend(module: ModuleType) -> None:
    from lmms_eval.api.task import Task, TaskConfig

    tell_stop_texts_apart(TaskConfig)
    adapt_building(Task)
    _index_ours(module.TaskManager)


def _index_ours(manager: Any) -> None:
    original = manager.initialize_tasks
    if hasattr(original, "with_dualfocus"):
        return
    ours = str(resource_folder("tasks"))

    @functools.wraps(original)
    def initialize_tasks(
        self: Any, include_path: str | Sequence[str] | None = None, include_defaults: bool = True
    ) -> Any:
        folders = [include_path] if isinstance(include_path, str) else list(include_path or ())
        known = {os.path.realpath(folder) for folder in folders}
        if include_defaults and os.path.realpath(ours) not in known:
            folders.append(ours)
        indices, key = _indices.get(), (*folders, include_defaults)
        if indices is not None and key in indices:
            return copy.deepcopy(indices[key])
        index = original(self, include_path=folders or None, include_defaults=include_defaults)
        if indices is not None:
            indices[key] = copy.deepcopy(index)
        return index

    initialize_tasks.with_dualfocus = True  # type: ignore[attr-defined]
    manager.initialize_tasks = initialize_tasks
    read_config = manager._get_config

    @functools.wraps(read_config)
    def _get_config(self: Any, name: str) -> Any:
        config = read_config(self, name)
        # A task of the user's own that includes one of ours reads what its own YAML says.
        is_ours = Path(self.task_index[name]["yaml_path"]).is_relative_to(ours)
        return prepared_config(name, config) if is_ours else config

    manager._get_config = _get_config


def prepared_config(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """``config`` of the task ``name``, reading from ``$DUALFOCUS_DATA`` where that is set and the task is one of ours.

    ``metadata: {dualfocus: {prepared: BENCHMARK/SPLIT}}`` of a task's YAML says what it reads. Raises ``UserError``
    when that is not there, with the command that prepares it.
    """
    prepared = read_structure(config.get("metadata"), name).prepared
    if prepared is None:
        return config
    from loguru import logger

    from dualfocus_eval.datasets import BENCHMARKS
    from dualfocus_eval.datasets.prepared import VARIABLE, data_root, prepared_table

    root, on_hub = data_root(), config["dataset_path"] != "parquet"
    benchmark, split = prepared.split("/")
    command = f"dualfocus data prepare {benchmark} --source DIR"
    if root is None:
        fault = _hub_fault(config) if on_hub else "its data are not on the hub"
        if fault:
            raise UserError(
                f"task {name}: {fault}, and {VARIABLE} is not set. Set it to a folder and make the set with: {command}"
            )
        return config
    table = prepared_table(root, benchmark, split)
    if table is None:
        raise UserError(f"task {name}: {root} has no finished {prepared}. Make it with: {command}")
    path, rows = table
    published = BENCHMARKS[benchmark].counts[split]
    if rows != published:
        logger.warning(
            f"task {name}: {root / benchmark} has {rows} questions, published are {published}; "
            "see dualfocus data verify"
        )
    kept = {key: value for key, value in config.items() if key != "dataset_name"}
    return kept | {
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {config["test_split"]: str(path.absolute())}},
    }


def _hub_fault(config: Mapping[str, Any]) -> str:
    """Why the task's data cannot be had from the hub, its cache or a local folder; empty when they can.

    Asked before lmms-eval does, whose download hides the reason behind its own retries.
    """
    from datasets import load_dataset_builder

    source = config["dataset_path"]
    try:
        load_dataset_builder(source, config.get("dataset_name"), **(config.get("dataset_kwargs") or {}))
    except (OSError, ValueError) as error:  # no connection, offline mode, no such dataset, not this part of it
        return f"{source} cannot be had from the hub ({type(error).__name__})"
    return ""


class _ExtendWhenImported(MetaPathFinder):
    """Lets the import of ``lmms_eval.tasks`` happen as ever, then extends it. Importing it here would cost seconds."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_extend(module: ModuleType) -> None:
            execute(module)
            _extend(module)

        spec.loader.exec_module = execute_and_extend  # type: ignore[method-assign]
        return spec
