"""GQA as multiple choice (GQA* in the paper): question and options in one text, one line each.

The published file gives no answers; they come from GQA's own annotation, joined by question id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dualfocus_eval.datasets.base import Benchmark, Rejected, Row
from dualfocus_eval.datasets.fields import FieldError, identifier, required, text
from dualfocus_eval.datasets.gqa import QUESTIONS, SPLIT, STRUCTURAL, check_question
from dualfocus_eval.datasets.sources import ImageFolder, find_file, json_members, json_records, needed_file, read_row
from dualfocus_eval.method.letters import option_index
from dualfocus_eval.method.stems import stem_of, without_post_prompts

__all__ = ["GQA_MCQ", "Annotation", "gqa_match_form", "read_record"]

PUBLISHED = "llava_gqa_testdev_balanced_mcq.jsonl"

# The first name is the published file's where that is known; the others are LLaVA's and GQA's.
ID_KEYS = ("question_id", "questionId", "id")
IMAGE_KEYS = ("image", "image_id", "imageId")
TEXT_KEYS = ("question", "text")
ANSWER_KEYS = ("answer", "label")
TYPE_KEYS = ("question_type", "category")


class Annotation(NamedTuple):
    """What GQA says of a question."""

    answer: str
    structural: str
    """One of GQA's structural types, or empty."""


def gqa_match_form(text: str) -> str:
    """The form of a prediction that the official scorer compares with the right answer, character by character.

    LLaVA's conversion for that scorer: outer blanks and closing full stops off, lower case.
    """
    return text.strip().rstrip(".").lower()


def read_record(record: Mapping[str, Any], annotations: Mapping[str, Annotation]) -> dict[str, Any]:
    """One record as a row of ours without its image. Raises ``FieldError`` that names what is missing or wrong.

    A right answer of GQA's that is among no option is kept: the official scorer counts such a question as wrong.
    """
    question_id, image = _first(record, ID_KEYS, identifier), _first(record, IMAGE_KEYS, identifier)
    whole = _text_with_options(record)
    found = {ID_KEYS[0]: question_id, IMAGE_KEYS[0]: image, TEXT_KEYS[0]: whole}
    required(found, tuple(found))
    asked = without_post_prompts(whole)
    stem, options = stem_of(asked)
    if not options:
        raise FieldError(f"question {question_id}: no options, which are lines 'A. ...', 'B. ...' after the question")
    annotation = annotations.get(question_id)
    structural = annotation.structural if annotation else _first(record, TYPE_KEYS)
    return {
        "question_id": question_id,
        "image_id": Path(image).stem,
        "text": asked,
        "stem": stem,
        "options": list(options),
        "answer": annotation.answer if annotation else _own_answer(question_id, record, options),
        "question_type": structural if structural in STRUCTURAL else "",
    }


def _first(
    record: Mapping[str, Any], keys: tuple[str, ...], read: Callable[[Mapping[str, Any], str], str] = text
) -> str:
    values = (read(record, key).strip() for key in keys if record.get(key) is not None)
    return next((value for value in values if value), "")


def _text_with_options(record: Mapping[str, Any]) -> str:
    """The text that has the options; a record may have the bare question beside it."""
    found = [text(record, key).strip() for key in TEXT_KEYS if record.get(key) is not None]
    return next((entry for entry in found if stem_of(entry).options), found[0] if found else "")


def _own_answer(question_id: str, record: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The record's own right answer, in the form that GQA's are in."""
    value = _first(record, ANSWER_KEYS)
    if not value:
        raise FieldError(
            f"question {question_id}: no right answer: it is not in {QUESTIONS} and has neither answer nor label"
        )
    if gqa_match_form(value) in map(gqa_match_form, options):
        return gqa_match_form(value)
    index = option_index(value, len(options))
    if index is None:
        raise FieldError(f"question {question_id}: answer {value!r} is none of its options")
    return gqa_match_form(options[index])


def _files(source: Path) -> list[Path]:
    path = needed_file(source, "the published question file of GQA-MCQ", PUBLISHED, "*gqa*mcq*.jsonl")
    annotation = find_file(source, QUESTIONS)
    return [path, annotation] if annotation else [path]


def _rows(source: Path) -> Iterator[Row | Rejected]:
    path, *annotated = _files(source)
    annotations: dict[str, Annotation | FieldError] = {}
    for questions in annotated:
        for member in json_members(questions):
            if isinstance(member, Rejected):
                yield member
            else:
                annotations.setdefault(member[0], _annotation(member[1]))
    folder = ImageFolder(source)
    for entry in json_records(path):
        yield entry if isinstance(entry, Rejected) else read_row(entry[0], _row, entry[1], annotations, folder)


def _annotation(record: Any) -> Annotation | FieldError:
    try:
        question = check_question(record)
    except FieldError as error:
        return error
    return Annotation(question["answer"], question["types"]["structural"])


def _row(
    where: str, record: dict[str, Any], annotations: Mapping[str, Annotation | FieldError], folder: ImageFolder
) -> Row | Rejected:
    question_id = _first(record, ID_KEYS, identifier)
    annotation = annotations.get(question_id)
    if isinstance(annotation, FieldError):
        return Rejected(where, f"question {question_id} in {QUESTIONS}: {annotation}")
    values = read_record(record, {} if annotation is None else {question_id: annotation})
    return Row(SPLIT, where, question_id, values, folder.find(values["image_id"]))


def _columns() -> Mapping[str, Any]:
    from datasets import List, Value

    text = Value("string")
    return {
        "question_id": text,
        "image_id": text,
        "text": text,
        "stem": text,
        "options": List(text),
        "answer": text,
        "question_type": text,
    }


GQA_MCQ = Benchmark(
    name="gqa-mcq",
    title="GQA as multiple choice",
    counts={SPLIT: 12578},
    images=398,
    columns=_columns,
    files=_files,
    rows=_rows,
    expects=f"{PUBLISHED}, {QUESTIONS} (for the right answers) and the images of GQA",
)
