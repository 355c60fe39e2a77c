"""The JSON files that a run keeps of itself: written whole or not at all, and named where they are damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import replacing
from dualfocus_eval.engines.identity import checkpoint_digest

__all__ = ["base_digest", "finish_stage", "is_finished", "read_note", "read_stage", "result_digest", "write_note"]

_STAGE = "stage.json"
"""Is written last of a stage."""
_STAGE_KEYS = ("stage", "steps", "samples", "seconds", "losses")


def write_note(path: Path, content: Any) -> None:
    """``content`` as JSON, at once."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_note(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict, keys: Sequence[str] = ()) -> Any:
    """What `write_note` wrote: a ``kind``, with ``keys``. Raises ``UserError`` where the file is something else."""
    try:
        content = json.loads(path.read_bytes())
        whole = isinstance(content, kind) and all(key in content for key in keys)
    except (OSError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise UserError(
            f"{path} is empty, cut or damaged: delete {path.parent} to train that stage again, or choose another --out"
        )
    return content


def is_finished(folder: Path) -> bool:
    """Whether the stage in ``folder`` came to its end."""
    return (folder / _STAGE).exists()


def finish_stage(folder: Path, record: dict[str, Any]) -> None:
    """Note ``record``, with a digest of the checkpoint that lies in ``folder`` by now."""
    write_note(folder / _STAGE, record | {"result": checkpoint_digest(str(folder))})


def read_stage(folder: Path) -> dict[str, Any]:
    """The record of the finished stage in ``folder``. Raises ``UserError`` where it is damaged."""
    record: dict[str, Any] = read_note(folder / _STAGE, keys=_STAGE_KEYS)
    return record


def base_digest(base: str) -> str:
    """Digest of the checkpoint in the folder ``base``; of a hub id, whose files are immutable, the commit.

    Of a repository the files may not all be here yet, but its configuration must be.
    """
    if Path(base).is_dir():
        return checkpoint_digest(base)
    from transformers.utils.hub import cached_file, extract_commit_hash

    return str(extract_commit_hash(cached_file(base, "config.json", local_files_only=True), None))


def result_digest(folder: Path) -> str:
    """Digest of the checkpoint in a finished stage's ``folder``.

    Raises ``UserError`` where it is no longer what the stage left. Records of older versions have none to compare with.
    """
    digest = checkpoint_digest(str(folder))
    if read_stage(folder).get("result", digest) != digest:
        raise UserError(
            f"{folder}: its files have been changed or cut since the stage ended; delete it to train it again, or "
            "choose another --out"
        )
    return digest
