"""TextVQA (Singh et al., 2019), release 0.5.1, with the Rosetta OCR tokens (0.2) where the source folder has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError, identifier, optional_text, required, text, texts
from dualfocus_eval.datasets.sources import ImageFolder, find_file, json_items, json_records, read_row

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
        for entry in json_records(path, "data"):
            if isinstance(entry, Rejected):
                yield entry
            else:
                yield read_row(entry[0], _row, split, entry[1], tokens, folder)


def _tokens(path: Path) -> dict[str, list[str]]:
    """OCR tokens by image. Raises ``UserError``: without them all, prompts would lack some unseen."""
    tokens: dict[str, list[str]] = {}
    for where, entry in json_items(path, "data"):
        try:
            required(entry, ("image_id", "ocr_tokens"))
            tokens[identifier(entry, "image_id")] = texts(entry, "ocr_tokens")
        except (FieldError, AttributeError) as error:
            raise UserError(f"{where} is no entry with image_id and ocr_tokens: {error}") from error
    return tokens


def _row(
    where: str, split: str, record: dict[str, Any], tokens: Mapping[str, list[str]] | None, folder: ImageFolder
) -> Row | Rejected:
    required(record, ("question_id", "question", "image_id"))
    question_id, image_id = identifier(record, "question_id"), identifier(record, "image_id")
    if not (question_id.isascii() and question_id.isdecimal()):
        return Rejected(where, f"question id {question_id!r} is not a number")
    answers = texts(record, "answers")
    if len(answers) != ANSWERS and (answers or split != "test"):
        return Rejected(where, f"question {question_id}: expected {ANSWERS} answers, found {answers!r}")
    values = {
        "image_id": image_id,
        "question_id": int(question_id),
        "question": text(record, "question"),
        "image_width": _whole(record, "image_width"),
        "image_height": _whole(record, "image_height"),
        "answers": answers,
        "image_classes": texts(record, "image_classes"),
        "set_name": optional_text(record, "set_name") or FILES[split],
        # Without the file they are not known; an image that it does not list has none.
        "ocr_tokens": None if tokens is None else tokens.get(image_id, []),
    }
    return Row(split, where, question_id, values, folder.find(image_id))


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    """A size in pixels; None where the release has none, or not a whole number."""
    value = record.get(name)
    return value if type(value) is int else None


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
