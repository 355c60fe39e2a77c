"""``--to parquet``: one row per question, pictures beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.export.base import Exported
from dualfocus_eval.export.columns import rows_of, schema
from dualfocus_eval.export.pictures import IMAGES
from dualfocus_eval.report.kept_pictures import copy_pictures

__all__ = ["PARQUET"]


class Parquet:
    """``cards.parquet`` and ``images/``."""

    name = "parquet"

    def write(self, exported: Exported, out: Path) -> Sequence[str]:
        """See `ExportFormat.write`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        copy_pictures(exported.pictures, out / IMAGES)
        columns = schema()
        with pq.ParquetWriter(out / "cards.parquet", columns, compression="zstd") as writer:
            for rows in rows_of(exported):
                writer.write_table(pa.Table.from_pylist(rows, schema=columns))
        return ()


PARQUET = Parquet()
