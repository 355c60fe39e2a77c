"""The kept pictures of a run as files of an export."""

from __future__ import annotations

from dualfocus_eval.analysis.cards import Card
from dualfocus_eval.export.base import Exported

__all__ = ["IMAGES", "picture_name"]

IMAGES = "images"
"""The folder of the pictures, relative to the export."""


def picture_name(exported: Exported, card: Card) -> str | None:
    """Where the picture of a question lies in the export; None where the run has none."""
    path = exported.picture_of(card)
    return None if path is None else f"{IMAGES}/{path.name}"
