"""Weight files read one at a time and tensor by tensor, without ever unpickling anything but tensors."""

from __future__ import annotations

import pickle
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dualfocus_eval.common.errors import CheckpointError

__all__ = ["Entry", "Weights", "inventory", "open_weights"]

_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
"""What can be converted, as safetensors calls it."""


@dataclass(frozen=True)
class Entry:
    """One weight of a checkpoint, unread."""

    key: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Its size as it is stored."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Weights(ABC):
    """An open weight file. A tensor's bytes are paged in when it is used, and let go with the file."""

    @abstractmethod
    def keys(self) -> Iterable[str]:
        """The names of its tensors."""

    @abstractmethod
    def describe(self, key: str) -> tuple[tuple[int, ...], str]:
        """Shape and type; the type in safetensors' words where it can be converted."""

    @abstractmethod
    def tensor(self, key: str) -> Tensor:
        """The tensor of that name."""


class _Safetensors(Weights):
    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def keys(self) -> Iterable[str]:
        return list(self._handle.keys())

    def describe(self, key: str) -> tuple[tuple[int, ...], str]:
        view = self._handle.get_slice(key)
        return tuple(view.get_shape()), str(view.get_dtype())

    def tensor(self, key: str) -> Tensor:
        value: Tensor = self._handle.get_tensor(key)
        return value


class _Pickled(Weights):
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def keys(self) -> Iterable[str]:
        return self._tensors

    def describe(self, key: str) -> tuple[tuple[int, ...], str]:
        value = self._tensors[key]
        names = {dtype: name for name, dtype in _TYPES.items()}
        return tuple(value.shape), names.get(value.dtype, str(value.dtype))

    def tensor(self, key: str) -> Tensor:
        return self._tensors[key]


def inventory(files: Iterable[Path], wanted: Callable[[str], bool]) -> dict[str, Entry]:
    """Every wanted weight by key; reads headers only. Raises ``CheckpointError`` for doubles and other than floats."""
    found: dict[str, Entry] = {}
    for file in files:
        with open_weights(file) as weights:
            for key in filter(wanted, weights.keys()):
                shape, kind = weights.describe(key)
                if kind not in _TYPES:
                    raise CheckpointError(
                        f"{file}: {key} is of type {kind}; only float16, bfloat16 and float32 can be converted: get "
                        "the checkpoint that the quantised weights were made from"
                    )
                if key in found:
                    raise CheckpointError(
                        f"{file}: {key} is also in {found[key].file.name}; remove the file that is not of this release"
                    )
                found[key] = Entry(key, file, shape, _TYPES[kind])
    return found


@contextmanager
def open_weights(file: Path) -> Iterator[Weights]:
    """The weights of ``file``, safetensors or .bin. Raises ``CheckpointError`` for a damaged file or one with code."""
    if file.suffix != ".safetensors":
        yield _Pickled(_load_pickle(file))
        return
    try:
        handle = safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(file) from error
    with handle:
        yield _Safetensors(handle)


def _load_pickle(file: Path) -> dict[str, Tensor]:
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped; they are read as a whole.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise _damaged(file) from error
        raise CheckpointError(
            f"{file}: refused, as loading it would run code ({code[1]}); get the checkpoint as safetensors, or from a "
            "source whose .bin files hold tensors only"
        ) from error
    except Exception as error:  # a damaged pickle provokes errors of every kind
        raise _damaged(file) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: other than tensors by name; only the state dict of a model can be converted")
    return content


def _damaged(file: Path) -> CheckpointError:
    return CheckpointError(f"{file}: not a file of weights, or damaged; download it again")
