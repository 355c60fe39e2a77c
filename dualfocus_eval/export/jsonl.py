"""``--to jsonl``: one card per line, pictures beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.escaping import json_text
from dualfocus_eval.export.base import Exported, plain_row
from dualfocus_eval.export.pictures import IMAGES, picture_name
from dualfocus_eval.report.kept_pictures import copy_pictures

__all__ = ["JSONL"]


class Jsonl:
    """``cards.jsonl`` and ``images/``."""

    name = "jsonl"

    def write(self, exported: Exported, out: Path) -> Sequence[str]:
        """See `ExportFormat.write`."""
        copy_pictures(exported.pictures, out / IMAGES)
        with (out / "cards.jsonl").open("w", encoding="utf-8") as file:
            for card in exported.cards():
                file.write(json_text(plain_row(card, picture_name(exported, card))) + "\n")
        return ()


JSONL = Jsonl()
