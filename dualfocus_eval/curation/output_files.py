"""The files that curation writes: samples as LLaVA's JSON and as parquet, and every exclusion as parquet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dualfocus_eval.curation.filtering import Excluded
from dualfocus_eval.curation.samples import Sample

__all__ = ["OutputFiles"]

SAMPLES_JSON, SAMPLES_TABLE, EXCLUDED = "samples.json", "samples.parquet", "excluded.parquet"
ROWS_AT_ONCE = 20_000


class OutputFiles:
    """Writes under temporary names; nothing is in place before ``publish``."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._json: IO[str] = _partial(out, SAMPLES_JSON).open("w", encoding="utf-8")
        self._json.write("[")
        self._samples = _Parquet(_partial(out, SAMPLES_TABLE), _sample_schema())
        self._excluded = _Parquet(_partial(out, EXCLUDED), _excluded_schema())

    def add(self, image_id: int | None, row: Sample | Excluded) -> None:
        """Take the next row in file order."""
        if isinstance(row, Excluded):
            self._excluded.add((row.qa_id, image_id, row.reason.value, row.detail))
            return
        self._json.write(("," if self._samples.rows else "") + "\n" + row.line)
        self._samples.add((row.qa_id, row.image_id, *row.columns))

    def publish(self) -> None:
        """Finish the files and move them into place."""
        self._json.write("\n]\n")
        self._close()
        for name in (SAMPLES_JSON, SAMPLES_TABLE, EXCLUDED):
            os.replace(_partial(self.out, name), self.out / name)

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        self._json.close()
        self._samples.close()
        self._excluded.close()


class _Parquet:
    """One table, written in groups of rows."""

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow.parquet as pq

        self.schema = schema
        # Opened here: pyarrow opens no path that is not UTF-8.
        self.file = path.open("wb")
        self.writer = pq.ParquetWriter(self.file, schema, compression="zstd")
        self.buffer: list[Sequence[Any]] = []
        self.rows = 0

    def add(self, row: Sequence[Any]) -> None:
        self.rows += 1
        self.buffer.append(row)
        if len(self.buffer) == ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self.writer.is_open:
            self._flush()
            self.writer.close()
            self.file.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.buffer:
            columns = zip(*self.buffer, strict=True)
            arrays = [pa.array(column, entry.type) for column, entry in zip(columns, self.schema, strict=True)]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
            self.buffer = []


def _sample_schema() -> Any:
    """``Sample``'s ids and columns."""
    import pyarrow as pa

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    return pa.schema(
        [
            ("qa_id", pa.int64()),
            ("image_id", pa.int64()),
            ("id", pa.string()),
            ("image", pa.string()),
            ("sub_image", pa.string()),
            ("box", pa.list_(pa.float64())),
            ("crop", pa.list_(pa.int32())),
            ("box_from", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("question", pa.string()),
            ("answer", pa.string()),
            ("conversations", pa.list_(turn)),
        ]
    )


def _excluded_schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [("qa_id", pa.int64()), ("image_id", pa.int64()), ("reason", pa.string()), ("detail", pa.string())]
    )


def _partial(out: Path, name: str) -> Path:
    return out / f"{name}.partial"
