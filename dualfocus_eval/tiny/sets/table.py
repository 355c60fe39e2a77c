"""What every embedded set is made of: held-out scenes, and a parquet file that stores each image once."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.tiny.scenes.layout import SIZES, Scene, compose
from dualfocus_eval.tiny.scenes.render import paint

__all__ = ["HELD_OUT_SEED", "held_out", "stored_image", "write_table"]

HELD_OUT_SEED = 20_240_222
"""Seed of the held-out scenes; training recipes use other seeds."""


def held_out(start: int, count: int, sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[Scene]:
    """``count`` held-out scenes of ``sizes`` from number ``start`` on; no two sets share a scene."""
    return (compose(HELD_OUT_SEED, start + index, sizes) for index in range(count))


def stored_image(scene: Scene, *, optimize: bool = True) -> dict[str, Any]:
    """The painted scene as a ``datasets`` image column stores it; to ``optimize`` saves 5% of its bytes, in twice the
    time.
    """
    content = io.BytesIO()
    paint(scene).save(content, "PNG", optimize=optimize)
    return {"bytes": content.getvalue(), "path": f"{scene.image_id}.png"}


def write_table(path: Path, rows: Sequence[dict[str, Any]], features: Any) -> Path:
    """Write ``rows`` with the columns of ``features`` (a ``datasets.Features``) and return ``path``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[name] for row in rows] for name in features}
    table = pa.table(columns, schema=features.arrow_schema)
    # A dictionary of this size holds every image once, however many questions it has.
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**28, row_group_size=len(rows))
    return path
