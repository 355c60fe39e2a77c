"""``--to fiftyone``: FiftyOne's dataset format on disk, written without that package.

Three parts: ``data/`` has the pictures, ``samples.json`` the samples with their labels, each of which names its class
as ``_cls``, and ``metadata.json`` what the dataset is. Without a ``version`` in it FiftyOne reads the samples one by
one and gives them their ids, so that they need none here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dualfocus_eval.analysis.cards import Card
from dualfocus_eval.common.escaping import json_text
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.export.base import Exported, plain_row
from dualfocus_eval.report.kept_pictures import copy_pictures

__all__ = ["FIFTYONE"]

_DATA = "data"
_PLAIN = (
    "task", "doc_id", "key", "question", "prompt", "options", "target", "answer", "box_text", "grounding", "selected",
    "decision", "rule", "fallback", "skipped_micro", "error", "categories", "score", "gap",
)  # fmt: skip
"""Fields of a card that a sample has under the same name."""


class FiftyOne:
    """A sample for each question about an image."""

    name = "fiftyone"

    def write(self, exported: Exported, out: Path) -> Sequence[str]:
        """See `ExportFormat.write`."""
        copy_pictures(exported.pictures, out / _DATA)
        (out / _DATA).mkdir(exist_ok=True)
        without_image, written = 0, 0
        with (out / "samples.json").open("w", encoding="utf-8") as file:
            file.write('{"samples": [')
            for card in exported.cards():
                if card.image is None:
                    without_image += 1
                    continue
                file.write((",\n" if written else "\n") + json_text(_sample(card)))
                written += 1
            file.write("\n]}\n")
        about = {"name": exported.name, "media_type": "image", "info": dict(exported.about)}
        (out / "metadata.json").write_text(json_text(about, indent=1) + "\n", encoding="utf-8")
        what = "questions are left out: FiftyOne's samples are images, and the image of these is not known"
        return (f"{without_image:,} {what}",) if without_image else ()


def _sample(card: Card) -> Mapping[str, Any]:
    assert card.image
    row = plain_row(card, None)
    return {
        # A digest is any text of a trace; none leads out of the folder, and a picture's own has nothing to quote.
        "filepath": f"{_DATA}/{quote(card.image.digest, safe='')}.jpg",
        "tags": [row["task"]],
        "metadata": None,
        **{name: row[name] for name in _PLAIN},
        "outcome": {"_cls": "Classification", "label": str(card.outcome)},
        "macro": _answer(row["macro"]),
        "micro": _answer(row["micro"]),
        "box": _detections("box", card.box),
        "sub_region": _detections("sub-region", card.sub_region),
        "truth": _detections("truth", card.truth),
    }


def _answer(candidate: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """One answer of a `plain_row`."""
    if candidate is None:
        return None
    numbers = {name: candidate[name] for name in ("nll", "cost", "score")}
    return {"_cls": "Classification", "label": candidate["text"], **numbers, "ppl": candidate["perplexity"]}


def _detections(label: str, box: Box | None) -> Mapping[str, Any] | None:
    """One box as [left, top, width, height], fractions of the image."""
    if box is None:
        return None
    bounds = [box.x1, box.y1, box.width, box.height]
    return {"_cls": "Detections", "detections": [{"_cls": "Detection", "label": label, "bounding_box": bounds}]}


FIFTYONE = FiftyOne()
