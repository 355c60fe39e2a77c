"""``--to hf-dataset``: a folder for `datasets.load_from_disk`, pictures inside."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dualfocus_eval.export.base import Exported
from dualfocus_eval.export.columns import rows_of, schema

__all__ = ["HF_DATASET"]


class HfDataset:
    """The columns of the other formats; ``picture`` is an image that decodes itself."""

    name = "hf-dataset"

    def write(self, exported: Exported, out: Path) -> Sequence[str]:
        """See `ExportFormat.write`."""
        from datasets import Dataset, Features, Image
        from datasets.arrow_writer import ArrowWriter

        features = Features(Features.from_arrow_schema(schema()) | {"picture": Image()})
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as work, _quiet():
            rows = Path(work, "rows.arrow")
            with ArrowWriter(path=str(rows), features=features) as writer:
                for block in rows_of(exported):
                    for row in block:
                        path = exported.pictures.get(row["image"]["digest"]) if row["image"] else None
                        writer.write(row | {"picture": str(path.resolve()) if path else None})
                writer.finalize()
            Dataset.from_file(str(rows)).save_to_disk(str(out))  # takes the pictures' bytes along
        return ()


@contextmanager
def _quiet() -> Iterator[None]:
    from datasets.utils import disable_progress_bars, enable_progress_bars, is_progress_bar_enabled

    enabled = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            enable_progress_bars()


HF_DATASET = HfDataset()
