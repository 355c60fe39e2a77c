"""The form of a case, and what several cases break: checkpoints, runs, files."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = [
    "TASK_NAME",
    "Broken",
    "Case",
    "Command",
    "Sound",
    "changed_json",
    "changed_weights",
    "copied",
    "cut",
    "disk_of",
    "fifo",
]


TASK_NAME = "df_textvqa_mini"
"""A task whose score falls from about 80 to about 10 when the embedded checkpoint may not zoom in."""


@dataclass(frozen=True)
class Sound:
    """What works, made once: cases break copies of it."""

    checkpoint: Path
    """A small random LLaVA."""
    run: Path
    """A finished run of the embedded checkpoint: `TASK_NAME`, 8 questions, with samples and traces."""
    baseline: Path
    """The baseline of that run."""
    moved: Path
    """The same questions under ``strategy=macro``."""
    original: Path
    """A checkpoint in the original LLaVA layout."""


@dataclass(frozen=True)
class Command:
    """How ``dualfocus`` is started, in the case's own folder."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    """Runs in the child before ``dualfocus`` does, e.g. to limit file sizes."""
    closed_output: bool = False
    """Standard output is closed."""
    reader: Sequence[str] = ()
    """A command that standard output is piped into."""


Broken = Callable[[Path, Sound], Command]
"""Breaks something in a folder that is empty and says what to run there."""


@dataclass(frozen=True)
class Case:
    """One injected fault of one command, and what is right."""

    command: str
    fault: str
    status: int
    said: str
    """Words that the output must have."""
    broken: Broken


def copied(source: Path, folder: Path) -> Path:
    """A copy of the folder ``source`` at ``folder / source.name``, to break."""
    return Path(shutil.copytree(source, folder / source.name))


def cut(path: Path, share: float = 0.5) -> None:
    """Leave only the first ``share`` of the file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def changed_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply ``change`` to the file's content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def changed_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Apply ``change`` to the tensors of a safetensors file."""
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def disk_of(size: int) -> Callable[[], None]:
    """A disk that takes ``size`` bytes of each file and no more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def fifo(path: Path) -> Path:
    """A named pipe, which nobody writes into: reading it would wait for ever."""
    os.mkfifo(path)
    return path
