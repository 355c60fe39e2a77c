"""lmms-eval's task files, read without loading data: the functions that write a prompt and show its images."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import yaml

__all__ = ["TaskSource", "read_tasks", "tasks_folder", "time_limit"]


_MOST_MISSING = 20


@dataclass(frozen=True)
class _Function:
    """A function that a task file names, not imported yet."""

    folder: str
    name: str

    def load(self) -> Any:
        module, _, function = self.name.rpartition(".")
        return getattr(_module(self.folder, module), function)


@functools.cache
def _module(folder: str, name: str) -> Any:
    path = Path(folder) / f"{name}.py"
    if not path.exists():
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    for _ in range(_MOST_MISSING):
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            if not error.name:
                raise
            # Only scoring needs it.
            sys.modules[error.name] = MagicMock()
        else:
            return module
    raise ImportError(f"{path} needs more than {_MOST_MISSING} packages that are not installed")


@dataclass(frozen=True)
class TaskSource:
    """One task file: how it writes a prompt and shows images."""

    folder: str
    name: str
    doc_to_text: Any
    doc_to_visual: Any
    wording: Mapping[str, Any] | None
    """Its settings for a model that it does not name."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for tasks that write equal prompts."""
        return self.folder, str(self.doc_to_text), str(self.doc_to_visual), str(self.wording)

    @property
    def post_prompts(self) -> tuple[str, ...]:
        return self._texts("post_prompt")

    @property
    def pre_prompts(self) -> tuple[str, ...]:
        return self._texts("pre_prompt")

    def _texts(self, name: str) -> tuple[str, ...]:
        text = (self.wording or {}).get(name)
        return (text,) if isinstance(text, str) else ()

    def prompt(self, row: Any) -> Any:
        return self._called(self.doc_to_text, row)

    def visuals(self, row: Any) -> Any:
        return self._called(self.doc_to_visual, row)

    def _called(self, how: Any, row: Any) -> Any:
        if isinstance(how, str):
            return _template(how, row)
        function = how.load()
        takes_wording = len(inspect.signature(function).parameters) > 1 and self.wording is not None
        return function(row, dict(self.wording or {})) if takes_wording else function(row)


def _template(text: str, row: Any) -> Any:
    if "{{" not in text:
        return row[text]
    from jinja2 import Environment

    names = [part.split("}}")[0].strip() for part in text.split("{{")[1:]]
    return Environment().from_string(text).render({name: row[name] for name in names if name.isidentifier()})


def tasks_folder() -> Path:
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks"


def read_tasks(folders: list[str] | None = None) -> Iterator[TaskSource]:
    """The tasks of ``folders`` (names below `tasks_folder`), of all without, that are asked as text about visuals."""
    root = tasks_folder()
    for path in sorted(root.rglob("*.yaml")):
        folder = path.relative_to(root).parts[0]
        if folders is not None and folder not in folders:
            continue
        config = _read(path)
        name, visuals, text = (config.get(key) for key in ("task", "doc_to_visual", "doc_to_text"))
        generates = config.get("output_type", "generate_until") == "generate_until"
        if isinstance(name, str) and isinstance(visuals, _Function) and generates and text is not None:
            settings = config.get("lmms_eval_specific_kwargs")
            yield TaskSource(folder, name, text, visuals, settings.get("default") if settings else None)


class _Loader(yaml.SafeLoader):
    """Reads ``!function`` as a name."""


def _function(loader: _Loader, node: Any) -> _Function:
    return _Function(str(Path(loader.name).parent), loader.construct_scalar(node))


_Loader.add_constructor("!function", _function)


def _read(path: Path) -> dict[str, Any]:
    """A task file with what it includes; empty for one that is none."""
    try:
        with path.open("rb") as file:
            own = yaml.load(file, _Loader)
    except (OSError, yaml.YAMLError):
        return {}
    if not isinstance(own, dict):
        return {}
    includes = own.pop("include", [])
    merged: dict[str, Any] = {}
    for include in reversed([includes] if isinstance(includes, str) else includes):
        merged |= _read(path.parent / include)
    return merged | own


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in a function that does not end, as one that waits for a network."""

    def give_up(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
