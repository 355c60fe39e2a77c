"""What a run is asked for, noted beside its traces when it begins, so that a running run can be followed.

Each process writes one note, ``progress.rank0000.json`` and so on, whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from dualfocus_eval.common.files import open_regular, replacing
from dualfocus_eval.common.numbers import Integer, Number

__all__ = ["Progress", "ProgressFormatError", "progress_files", "read_progress", "write_progress"]

_STEM = "progress.rank"


class ProgressFormatError(ValueError):
    """A file that is not a note of this version."""


@dataclass(frozen=True)
class Progress:
    """What one process of a run answers, and how its traces are told from others in the same files."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    started: Number
    """When it asked its first question, in seconds since 1970."""
    processes: Annotated[Integer, Field(ge=1)]
    """Of the whole run."""
    settings_key: str
    arithmetic: Mapping[str, str]
    model: str
    """The checkpoint, or the model's name on a server."""
    strategy: str
    selection: str
    questions: Mapping[str, tuple[Integer, ...]]
    """By task, in the order of the run: the numbers of the documents that this process asks about."""
    arguments: Mapping[str, str | list[JsonValue]]
    """lmms-eval's ``include_path`` and ``reasoning_tags``, which scoring needs."""
    trace_bytes: Annotated[Integer, Field(ge=0)]
    """Size of its trace file when it began: the answers before are of an earlier run."""
    version: Literal[1] = 1


_NOTE = TypeAdapter(Progress)


def write_progress(folder: Path, progress: Progress, rank: int = 0) -> Path:
    """Write the note of one process; its path. Raises OSError."""
    path = folder / f"{_STEM}{rank:04d}.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(asdict(progress), separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def progress_files(folder: Path) -> list[Path]:
    """The notes of all processes, in order."""
    return sorted(folder.glob(f"{_STEM}*.json"))


def read_progress(path: Path) -> Progress:
    """One note. Raises OSError, and ProgressFormatError that names the field at fault."""
    with open_regular(path) as file:
        text = file.read()
    try:
        return _NOTE.validate_json(text)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_context=False)
        raise ProgressFormatError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
