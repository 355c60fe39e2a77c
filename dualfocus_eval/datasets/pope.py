"""POPE (Li et al., 2023): is an object in the image? COCO's question files, and those of A-OKVQA and GQA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import identifier, required, text
from dualfocus_eval.datasets.sources import ImageFolder, find_file, json_records, read_row

__all__ = ["POPE", "POPE_AOKVQA", "POPE_GQA"]

SPLITS = ("random", "popular", "adversarial")
ANSWERS = ("yes", "no")


def _columns() -> Mapping[str, Any]:
    from datasets import Value

    return dict.fromkeys(("id", "question_id", "question", "answer", "image_source", "category"), Value("string"))


def _pope(name: str, title: str, prefix: str, images: int | None, pictures: str) -> Benchmark:
    def found(source: Path) -> dict[str, Path]:
        files = {
            split: find_file(source, f"{prefix}_pope_{split}.json", f"{prefix}_pope_*{split}.json") for split in SPLITS
        }
        return {split: path for split, path in files.items() if path}

    def files(source: Path) -> list[Path]:
        chosen = found(source)
        if not chosen:
            raise UserError(
                f"no {prefix}_pope_{{{','.join(SPLITS)}}}.json below {source}: these are {title}'s question files"
            )
        return list(chosen.values())

    def rows(source: Path) -> Iterator[Row | Rejected]:
        folder = ImageFolder(source)
        for split, path in found(source).items():
            for number, entry in enumerate(json_records(path), 1):
                if isinstance(entry, Rejected):
                    yield entry
                else:
                    where, record = entry
                    yield read_row(where, _row, split, number, record, folder)

    return Benchmark(
        name=name,
        title=title,
        counts=dict.fromkeys(SPLITS, 3000),
        images=images,
        columns=_columns,
        files=files,
        rows=rows,
        expects=f"{prefix}_pope_random.json, ..popular.., ..adversarial.., and {pictures}",
    )


def _row(where: str, split: str, number: int, record: dict[str, Any], folder: ImageFolder) -> Row | Rejected:
    required(record, ("question_id", "image", "text", "label"))
    question_id, answer = identifier(record, "question_id"), text(record, "label").strip().lower()
    if answer not in ANSWERS:
        return Rejected(where, f"question {question_id}: label {record['label']!r} is neither yes nor no")
    question, image = text(record, "text"), folder.find(text(record, "image"))
    values = {
        "id": str(number),
        "question_id": question_id,
        "question": question,
        "answer": answer,
        "image_source": image.path.stem,
        "category": split,
    }
    return Row(split, where, question_id, values, image)


POPE = _pope("pope", "POPE", "coco", 500, "the images of COCO val2014")
POPE_AOKVQA = _pope("pope-aokvqa", "POPE on A-OKVQA", "aokvqa", 500, "the images of COCO val2014")
POPE_GQA = _pope("pope-gqa", "POPE on GQA", "gqa", 500, "the images of GQA")
