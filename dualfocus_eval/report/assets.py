"""Styles and scripts of the pages, as a page takes them in under its Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

__all__ = ["Inlined", "inlined"]


@dataclass(frozen=True)
class Inlined:
    """What stands between the tags, and what the policy calls it."""

    text: str
    source: str
    """``'sha256-...'``, quotes included."""


def inlined(*files: str) -> Inlined:
    """The files of this package, one after the other.

    They are allowed by their digest. So a page is one file that opens from anywhere, and nothing runs that this
    package did not write. (Files beside the page would need ``'self'``, which browsers read differently for addresses
    that begin with ``file:``.)
    """
    folder = resources.files("dualfocus_eval.report")
    text = "\n" + "\n".join((folder / name).read_text(encoding="utf-8") for name in files)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Inlined(text, f"'sha256-{digest}'")
