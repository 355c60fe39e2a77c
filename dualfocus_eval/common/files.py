"""Files that are written whole or not at all, read only where they are files, and their digests."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from dualfocus_eval.common.errors import UserError

__all__ = [
    "check_regular",
    "check_writable",
    "files_below",
    "open_regular",
    "replacing",
    "sha256_of",
    "sole_writer",
    "try_lock",
    "writing_out",
]

_LONGEST_NAME = 255
"""Bytes, on the usual file systems."""


@contextmanager
def writing_out(out: Path) -> Iterator[None]:
    """Raise ``UserError`` where the folder ``out``, which ``--out`` names, cannot be written in the block."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error}") from error


@contextmanager
def replacing(target: Path, *, writer: str = "") -> Iterator[Path]:
    """A path beside ``target`` to write to; when the block ends well, the file takes ``target``'s place.

    Processes that may write the same file at once need a ``writer`` each, a short name of their own.
    """
    name, ending = os.fsencode(target.name), f".{writer}.partial" if writer else ".partial"
    if len(name) + len(ending) > _LONGEST_NAME:
        name = hashlib.sha256(name).hexdigest().encode()
    partial = target.with_name(f"{os.fsdecode(name)}{ending}")
    yield partial
    os.replace(partial, target)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` for what is missing, a folder, or a pipe or device, which may never answer or never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def check_writable(folder: Path) -> None:
    """Make ``folder`` if need be. Raises ``OSError`` where no file can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """A file to read bytes from. Raises ``OSError``, also where `check_regular` does."""
    check_regular(path)
    return open(path, "rb")


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces. Raises ``OSError``."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Whatever is no folder below ``folder``, sorted by name within each folder.

    Links to folders are followed. A folder that several paths lead to is entered once, so cycles end.
    """
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in entered:
            folders.clear()
            continue
        entered.add((found.st_dev, found.st_ino))
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process; False when another live process has locked it.

    True without a lock on file systems that have none: work goes on there without the check.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if need be, for this process: its file ``.lock`` is locked and stays behind.

    Raises ``UserError`` while another live process holds it, ``OSError`` where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(descriptor):
            raise UserError(f"another process is writing to {folder}: wait until it ends, or choose another folder")
        yield
    finally:
        os.close(descriptor)
