"""The SHA-256 of weight files, which are too large to be read at every start."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.common.files import replacing, sha256_of

__all__ = ["weights_digest"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTLED_NS = 2 * 10**9
"""A file written more recently than this may change again without a change of its times: its digest is not kept."""


def weights_digest(path: Path) -> str:
    """SHA-256 of the file, in hexadecimal; read only where neither the hub's cache nor the user's knows it.

    Raises ``CheckpointError`` for a file that is written to meanwhile, OSError for one that cannot be read.
    """
    file = path.resolve()
    of_hub = path.is_symlink() and file.parent.name == "blobs" and _SHA256.fullmatch(file.name)
    # The hub's cache names large files by their SHA-256. One written to after it was linked may have other content.
    untouched = of_hub and file.stat().st_mtime_ns <= path.lstat().st_mtime_ns
    return file.name if untouched else _remembered(file)


def _remembered(file: Path) -> str:
    """From the user's cache directory, where the file is as it was when it was hashed."""
    name = hashlib.sha256(os.fsencode(file)).hexdigest()[:32]
    memory = user_cache_path("dualfocus-eval") / "digests" / f"{name}.json"
    state = _state(file)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_bytes())
        if known["state"] == state and _SHA256.fullmatch(known["sha256"]):
            return str(known["sha256"])
    digest = sha256_of(file)
    if _state(file) != state:
        raise CheckpointError(f"{file}: written to while it was read; wait until the checkpoint is complete")
    _, modified, changed, _ = state
    if time.time_ns() - max(modified, changed) > _SETTLED_NS:
        with suppress(OSError):  # without a cache directory it is hashed again
            memory.parent.mkdir(parents=True, exist_ok=True)
            with replacing(memory) as partial:
                partial.write_text(json.dumps({"file": str(file), "state": state, "sha256": digest}))
    return digest


def _state(file: Path) -> list[int]:
    # The time of the inode's last change cannot be set back, as that of the content can (cp -p, rsync -t).
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
