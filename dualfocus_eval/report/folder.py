"""Which files of a folder are a report's own, so that the next report there replaces those and no others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dualfocus_eval.common.errors import UserError

__all__ = ["take_folder"]

LIST = "files.json"


def take_folder(out: Path, files: Sequence[str], reports: Sequence[str] = ()) -> None:
    """Make ``out`` ready for a report of ``files``, with reports of single runs in the subfolders ``reports``.

    An earlier report there is removed, its subfolders included: it has left a list of its files, as this one does.
    Raises ``UserError`` where a file of the same name is in no such list, before anything is removed, and ``OSError``
    where the folder cannot be written.
    """
    listed = _listed(out)
    own = set(listed[0])  # a report has a file for each of its pictures, which may be many thousands
    for name in (LIST, *files):
        if (out / name).exists() and name not in own:
            raise UserError(
                f"--out: {out / name} is there and is not of an earlier report: move it away, or name another folder"
            )
    _remove(out, *listed)
    for folder in {(out / name).parent for name in (LIST, *files)}:
        folder.mkdir(parents=True, exist_ok=True)
    written = {"files": [LIST, *files], "reports": list(reports)}
    (out / LIST).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _listed(out: Path) -> tuple[list[str], list[str]]:
    """The files and subfolders of the report in ``out``; none where there is no list of them."""
    try:
        listed = json.loads((out / LIST).read_text(encoding="utf-8"))
        root = out.resolve()
        found = [[str(name) for name in listed[key] if _inside(root, str(name))] for key in ("files", "reports")]
    except (OSError, ValueError, LookupError, TypeError):
        return [], []
    return found[0], found[1]


def _inside(root: Path, name: str) -> bool:
    path = (root / name).resolve()
    return path != root and path.is_relative_to(root)


def _remove(out: Path, files: Sequence[str], reports: Sequence[str]) -> None:
    for name in reports:
        _remove(out / name, *_listed(out / name))
        with suppress(OSError):  # not there, or with files that somebody else put there
            (out / name).rmdir()
    for name in files:
        (out / name).unlink(missing_ok=True)
    for folder in {(out / name).parent for name in files} - {out}:
        with suppress(OSError):
            folder.rmdir()
