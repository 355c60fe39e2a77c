"""TextVQA (Singh et al., 2019), release 0.5.1, with the Rosetta OCR tokens (0.2) where the source folder has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.data.benchmarks.base import Benchmark, Rejected, Row
from dualfocus_eval.data.benchmarks.sources import ImageFolder, find_file, json_items, read_row
from dualfocus_eval.errors import UserError

__all__ = ["TEXTVQA"]

FILES = {"validation": "val", "test": "test"}
"""A split's name within the release's file names."""
ANSWERS = 10
"""Answers per question, which VQA accuracy needs; the test split's are not published."""


def _columns() -> Mapping[str, Any]:
    from datasets import List, Value

    text, number = Value("string"), Value("int32")
    return {
        "image_id": text,
        "question_id": number,
        "question": text,
        "image_width": number,
        "image_height": number,
        "answers": List(text),
        "image_classes": List(text),
        "set_name": text,
        "ocr_tokens": List(text),
    }


def _found(source: Path) -> dict[str, tuple[Path, Path | None]]:
    """Question file and OCR tokens of every split that is there."""
    files = {
        split: (
            find_file(source, f"TextVQA_0.5.1_{name}.json", f"TextVQA_*_{name}.json"),
            find_file(source, f"TextVQA_Rosetta_OCR_v0.2_{name}.json"),
        )
        for split, name in FILES.items()
    }
    return {split: (questions, tokens) for split, (questions, tokens) in files.items() if questions}


def _files(source: Path) -> list[Path]:
    found = _found(source)
    if not found:
        raise UserError(f"no TextVQA_0.5.1_{{val,test}}.json below {source}: these are the release's question files")
    return [path for paths in found.values() for path in paths if path]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    folder = ImageFolder(source)
    for split, (path, tokens_path) in _found(source).items():
        tokens = _tokens(tokens_path) if tokens_path else None
        for where, record in json_items(path, "data"):
            if isinstance(record, dict):
                yield read_row(where, _row, split, record, tokens, folder)
            else:
                yield Rejected(where, "is not a JSON object")


def _tokens(path: Path) -> dict[str, list[str]]:
    """OCR tokens by image."""
    try:
        entries = (entry for _, entry in json_items(path, "data"))
        return {str(entry["image_id"]): [str(token) for token in entry["ocr_tokens"]] for entry in entries}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} has an entry without image_id and ocr_tokens: {type(error).__name__}: {error}"
        ) from error


def _row(
    where: str, split: str, record: dict[str, Any], tokens: Mapping[str, list[str]] | None, folder: ImageFolder
) -> Row | Rejected:
    missing = [name for name in ("question_id", "question", "image_id") if record.get(name) is None]
    if missing:
        return Rejected(where, f"lacks {', '.join(missing)}")
    question_id, image_id, answers = record["question_id"], str(record["image_id"]), record.get("answers") or []
    if not str(question_id).isdecimal():
        return Rejected(where, f"question id {question_id!r} is not a number")
    if not isinstance(answers, list) or (len(answers) != ANSWERS and (answers or split != "test")):
        return Rejected(where, f"question {question_id}: expected {ANSWERS} answers, found {answers!r}")
    image = folder.find(image_id)
    values = {
        "image_id": image_id,
        "question_id": int(question_id),
        "question": str(record["question"]),
        "image_width": _whole(record.get("image_width")),
        "image_height": _whole(record.get("image_height")),
        "answers": [str(answer) for answer in answers],
        "image_classes": [str(name) for name in record.get("image_classes") or []],
        "set_name": str(record.get("set_name") or FILES[split]),
        # Without the file they are not known; an image that it does not list has none.
        "ocr_tokens": None if tokens is None else tokens.get(image_id, []),
    }
    return Row(split, where, str(question_id), values, image)


def _whole(size: Any) -> int | None:
    return size if isinstance(size, int) else None


TEXTVQA = Benchmark(
    name="textvqa",
    title="TextVQA",
    counts={"validation": 5000, "test": 5734},
    images=None,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects="TextVQA_0.5.1_val.json, TextVQA_0.5.1_test.json, their TextVQA_Rosetta_OCR_v0.2_val.json, ..test.json "
    "where prompts are to have OCR tokens, and the folders train_images, test_images",
)
