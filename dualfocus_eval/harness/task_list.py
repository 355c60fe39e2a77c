"""This package's tasks: how many questions each has, and what it needs before it can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets import BENCHMARKS
from dualfocus_eval.harness.structure import read_structure

__all__ = ["list_tasks"]


@dataclass(frozen=True)
class TaskEntry:
    """A task or a group of tasks."""

    name: str
    questions: int
    """In the published set; of a group, those of its tasks together."""
    needs: str
    """Where the data come from; of a group, its tasks."""


def list_tasks() -> list[TaskEntry]:
    """Groups first, both by name."""
    configs = {path.stem: _read(path) for path in sorted(resource_folder("tasks").rglob("*.yaml"))}
    tasks = {name: _task(name, config) for name, config in configs.items() if "group" not in config}
    groups = {name: config["task"] for name, config in configs.items() if "group" in config}

    def members(name: str) -> list[str]:
        return [task for member in groups[name] for task in members(member)] if name in groups else [name]

    entries = [
        TaskEntry(name, sum(tasks[task].questions for task in members(name)), ", ".join(members_of))
        for name, members_of in groups.items()
    ]
    return entries + list(tasks.values())


def _task(name: str, config: Mapping[str, Any]) -> TaskEntry:
    from pyarrow.parquet import read_metadata

    source, prepared = config["dataset_path"], read_structure(config["metadata"], name).prepared
    if prepared is None:
        (file,) = config["dataset_kwargs"]["data_files"].values()
        return TaskEntry(name, read_metadata(config["folder"] / file).num_rows, "nothing, it is embedded")
    benchmark, split = prepared.split("/")
    hub = "" if source == "parquet" else f"{source} from the hub, or "
    needs = f"{hub}dualfocus data prepare {benchmark} --source DIR"
    return TaskEntry(name, BENCHMARKS[benchmark].counts[split], needs)


class _Loader(yaml.SafeLoader):
    """Reads a task's YAML without importing its functions."""


_Loader.add_constructor("!function", lambda loader, node: None)


def _read(path: Path) -> dict[str, Any]:
    """A task's YAML over what it includes, and the folder that it lies in."""
    config: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    base = config.pop("include", None)
    return {**(_read(path.parent / base) if base else {}), **config, "folder": path.parent}
