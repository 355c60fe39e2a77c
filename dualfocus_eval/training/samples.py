"""A source's samples, measured once before training: how long they are, and which of them cannot be used.

What was found is kept in the run's folder, memory-mapped, so that a run that goes on has the same samples at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import open_regular, replacing, sha256_of
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.training.measuring import AT_ONCE, ImageFiles, Measured, is_readable, measured_rows
from dualfocus_eval.training.records import Record, Turn, read_records
from dualfocus_eval.training.tuning import Source

__all__ = ["Samples", "locate", "measure"]

_FORMAT = "2"
"""Of what is kept: of another it is measured again."""
_SCHEMA = pa.schema(
    {"record": pa.string(), "length": pa.int32(), "targets": pa.int32(), "grounding": pa.int32()}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Samples:
    """The usable samples of one source."""

    files: ImageFiles
    table: pa.Table = field(repr=False)
    sha256: str
    """Of the data file."""
    faults: tuple[Rejected, ...]
    """What is left out as unusable."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, row: int) -> Record:
        values = json.loads(self.table["record"][row].as_py())
        turns = tuple(Turn(turn["role"], tuple(turn["parts"])) for turn in values["turns"])
        return Record(values["place"], tuple(values["images"]), values["sub_image"], turns)

    def column(self, name: str) -> NDArray[np.int32]:
        """``length`` in tokens, images expanded; ``targets`` among them; ``grounding`` among those: (samples,)."""
        return self.table[name].to_numpy()  # type: ignore[no-any-return]


def locate(source: Source, data: Path) -> tuple[Path, ImageFiles]:
    """The data file of ``source`` below ``data``, and its images. Raises ``UserError`` where one is missing."""
    path, files = data / source.file, ImageFiles(data / source.images, (data / source.file).parent)
    try:
        open_regular(path).close()
    except FileNotFoundError as error:
        raise UserError(f"data file {path} is missing; the recipe's data files are looked for below --data") from error
    except OSError as error:
        raise UserError(f"data file {path} cannot be read: {error.strerror}") from error
    if not files.images.is_dir():
        raise UserError(f"image folder {files.images} of {path.name} is missing")
    return path, files


def measure(source: Source, data: Path, processor: Any, folder: Path) -> Samples:
    """The samples of ``source`` below ``data``, from ``folder`` where they have been measured before.

    They are measured again when an image that was missing or damaged then can be read now. Raises ``UserError`` where
    file or image folder are missing, or no sample is usable.
    """
    path, files = locate(source, data)
    sha256 = sha256_of(path)
    name = f"{path.stem}-{_key(sha256, str(files.images.resolve()), processor)}"
    table, faults = folder / f"{name}.arrow", folder / f"{name}.faults.json"
    kept = _kept(table, faults)
    if kept is None or any(is_readable(Path(fault["image"])) for fault in kept[1] if "image" in fault):
        folder.mkdir(parents=True, exist_ok=True)
        _write(measured_rows(read_records(path), files, processor), table, faults)
        kept = _kept(table, faults)
    if kept is None:
        raise OSError(f"{table} was changed while it was read")
    rows, left_out = kept
    samples = Samples(files, rows, sha256, tuple(Rejected(fault["where"], fault["reason"]) for fault in left_out))
    if not len(samples):
        first = samples.faults[0]
        raise UserError(f"{path}: none of its {len(samples.faults)} samples is usable; {first.where}: {first.reason}")
    return samples


def _key(sha256: str, images: str, processor: Any) -> str:
    """Names all that the measures depend on."""
    content = hashlib.blake2b(digest_size=8)
    for part in (_FORMAT, sha256, images, processor.chat_template, processor.image_processor.to_json_string()):
        content.update(part.encode("utf-8", "surrogateescape"))
    content.update(processor.tokenizer.backend_tokenizer.to_str().encode())
    return content.hexdigest()


def _kept(table: Path, faults: Path) -> tuple[pa.Table, list[dict[str, str]]] | None:
    """What `_write` wrote; None where there is nothing, or not all of it."""
    try:
        found = json.loads(faults.read_bytes())
        with pa.memory_map(str(table)) as content:
            rows = pa.ipc.open_stream(content).read_all()
        return (rows, found["left_out"]) if rows.num_rows == found["kept"] else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _write(rows: Iterable[Measured], table: Path, faults: Path) -> None:
    """Both files at once or not at all: the second is what says that the first is whole."""
    left_out: list[dict[str, str]] = []
    count = 0
    with (
        replacing(table) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, _SCHEMA) as writer,
    ):
        rows = iter(rows)
        while block := list(islice(rows, AT_ONCE)):
            left_out += [asdict(row) for row in block if isinstance(row, Rejected)]
            kept = [row for row in block if not isinstance(row, Rejected)]
            count += len(kept)
            columns = zip(*kept, strict=True) if kept else ((),) * len(_SCHEMA)
            writer.write_batch(
                pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
            )
    with replacing(faults) as partial:
        partial.write_text(json.dumps({"kept": count, "left_out": left_out}), encoding="utf-8")
