"""The columns of an export as an Arrow schema, so that they have the same types whatever a run has in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dualfocus_eval.export.base import Exported, plain_row
from dualfocus_eval.export.pictures import picture_name

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["rows_of", "schema"]

_AT_ONCE = 1_000


def schema() -> pa.Schema:
    """A column for each field of `Card.to_dict`, and ``picture``, a path relative to the export."""
    import pyarrow as pa

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    texts = pa.list_(text)
    box = pa.struct([(name, number) for name in ("x1", "y1", "x2", "y2")])
    crop = pa.struct([(name, whole) for name in ("left", "top", "right", "bottom")])
    candidate = pa.struct(
        [("text", text), ("nll", number), ("cost", number), ("score", number), ("perplexity", number)]
    )
    return pa.schema([
        ("task", text), ("doc_id", whole), ("key", text), ("question", text), ("prompt", text), ("options", texts),
        ("target", text), ("answer", text),
        ("image", pa.struct([("digest", text), ("width", whole), ("height", whole)])), ("box", box), ("crop", crop),
        ("truth", box), ("box_text", text), ("grounding", text), ("macro", candidate), ("micro", candidate),
        ("selected", text), ("decision", text), ("rule", text), ("fallback", text), ("skipped_micro", pa.bool_()),
        ("error", text), ("categories", texts), ("score", number), ("outcome", text), ("gap", number),
        ("picture", text),
    ])  # fmt: skip


def rows_of(exported: Exported) -> Iterator[list[dict[str, Any]]]:
    """The rows of all questions, some at a time."""
    rows = (plain_row(card, picture_name(exported, card)) for card in exported.cards())
    while block := list(islice(rows, _AT_ONCE)):
        yield block
