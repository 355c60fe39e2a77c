"""Values of other types than the release's: they cost their row, by name, and never become a prompt or an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.datasets.prepared import MANIFEST
from tests.datasets.test_prepare_gqa import MCQ
from tests.datasets.test_prepare_gqa import entry as gqa
from tests.datasets.test_prepare_gqa import mcq_entry as mcq
from tests.datasets.test_prepare_seed import question as seed
from tests.datasets.test_prepare_textvqa import question as textvqa

Record = dict[str, Any]
GQA = "testdev_balanced_questions.json"


def pope(number: int, **changes: Any) -> Record:
    return {"question_id": number, "image": "a.jpg", "text": f"Is there a {number}?", "label": "no", **changes}


def lines(records: list[Record]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def by_id(records: list[Record]) -> str:
    return json.dumps({str(number): record for number, record in enumerate(records)})


def below(key: str) -> Callable[[list[Record]], str]:
    return lambda records: json.dumps({"more": {}, key: records})


MAKERS: dict[str, tuple[Callable[..., Record], str, Callable[[list[Record]], str], dict[str, Any]]] = {
    "pope": (pope, "coco_pope_random.json", lines, {}),
    "seed-img": (seed, "SEED-Bench.json", below("questions"), {"data_id": "a"}),
    "textvqa": (lambda n, **more: textvqa(n, "a", **more), "TextVQA_0.5.1_val.json", below("data"), {}),
    "gqa": (gqa, GQA, by_id, {"imageId": "a"}),
    "gqa-mcq": (mcq, MCQ, lines, {"image": "a.jpg", "answer": "A"}),
}
"""Of every benchmark a record, its file, how that is written, and what fits the image ``a.jpg``."""


def prepare(
    tmp_path: Path, name: str, records: list[Record], write: Callable[[list[Record]], str] | None = None
) -> int:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(source / "a.jpg")
    _, file, written, _ = MAKERS[name]
    (source / file).write_text((write or written)(records))
    return main(["data", "prepare", name, "--source", str(source), "--out", str(tmp_path / "root")])


def left_out(tmp_path: Path, name: str) -> list[str]:
    manifest = json.loads((tmp_path / "root" / name / MANIFEST).read_text())
    return [entry["reason"] for entry in manifest["left_out"]]


def rows(tmp_path: Path, name: str) -> list[Record]:
    (path,) = (tmp_path / "root" / name).glob("*.parquet")
    found: list[Record] = pq.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("pope", {"text": None}, "lacks text"),
        ("pope", {"text": " "}, "lacks text"),
        ("pope", {"text": ["Is it?"]}, "text is a list, not text"),
        ("pope", {"text": True}, "text is true, not text"),
        ("pope", {"text": 7}, "text is a number, not text"),
        ("pope", {"text": {"a": 1}}, "text is an object, not text"),
        ("pope", {"label": ["no"]}, "label is a list, not text"),
        ("pope", {"label": False}, "label is false, not text"),
        ("pope", {"image": 7}, "image is a number, not text"),
        ("pope", {"question_id": True}, "question_id is true, not text or a whole number"),
        ("pope", {"question_id": 1.5}, "question_id is a number, not text or a whole number"),
        ("pope", {"question_id": [1]}, "question_id is a list"),
        ("seed-img", {"question": ["a"]}, "question is a list, not text"),
        ("seed-img", {"choice_a": 1}, "choice_a is a number, not text"),
        ("seed-img", {"choice_b": None}, "lacks choice_b"),
        ("seed-img", {"answer": ["A"]}, "answer is a list, not text"),
        ("seed-img", {"question_type_id": True}, "dimension True is none of 1 to 9"),
        ("seed-img", {"question_type_id": 5.0}, "dimension 5.0 is none of 1 to 9"),
        ("seed-img", {"data_type": None}, "lacks data_type"),
        ("seed-img", {"data_type": "Image"}, "data_type 'Image' is not image or video"),
        ("textvqa", {"question": {"a": "b"}}, "question is an object, not text"),
        ("textvqa", {"answers": [None] * 10}, "an entry of answers is null, not text"),
        ("textvqa", {"answers": None}, "expected 10 answers, found []"),
        ("textvqa", {"answers": False}, "answers is false, not a list of texts"),
        ("textvqa", {"answers": [1] * 10}, "an entry of answers is a number, not text"),
        ("textvqa", {"answers": "abcdefghij"}, "answers is text, not a list of texts"),
        ("textvqa", {"question_id": True}, "question_id is true"),
        ("textvqa", {"image_classes": [["a"]]}, "an entry of image_classes is a list, not text"),
        ("textvqa", {"set_name": ["val"]}, "set_name is a list, not text"),
        ("gqa", {"answer": True}, "answer is true, not text"),
        ("gqa", {"answer": ["a"]}, "answer is a list, not text"),
        ("gqa", {"answer": None}, "lacks answer"),
        ("gqa", {"question": 5}, "question is a number, not text"),
        ("gqa", {"imageId": ["a"]}, "imageId is a list"),
        ("gqa", {"isBalanced": "no"}, "isBalanced is 'no', not true or false"),
        ("gqa", {"groups": ["a"]}, "groups is a list, not an object"),
        ("gqa", {"groups": {"global": ["a"]}}, "global is a list, not text"),
        ("gqa", {"types": "query"}, "types is text, not an object"),
        ("gqa", {"types": {"structural": ["query"]}}, "structural type ['query'] is none of"),
        ("gqa", {"fullAnswer": 7}, "fullAnswer is a number, not text"),
        ("gqa-mcq", {"question": None}, "lacks question"),
        ("gqa-mcq", {"question": ["Is it?\nA. a\nB. b"]}, "question is a list, not text"),
        ("gqa-mcq", {"answer": 0}, "answer is a number, not text"),
        ("gqa-mcq", {"answer": True}, "answer is true, not text"),
        ("gqa-mcq", {"question_id": [1]}, "question_id is a list"),
        ("gqa-mcq", {"image": {"a": 1}}, "image is an object"),
    ],
)
def test_a_value_of_another_type_costs_its_row_by_name(
    name: str, change: Record, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, _, _, fitting = MAKERS[name]
    assert prepare(tmp_path, name, [make(1, **fitting), make(2, **(fitting | change)), make(3, **fitting)]) == 1
    (found,) = left_out(tmp_path, name)
    assert reason in found
    assert len(rows(tmp_path, name)) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("name", MAKERS)
def test_the_releases_own_types_are_taken(name: str, tmp_path: Path) -> None:
    make, _, _, fitting = MAKERS[name]
    assert prepare(tmp_path, name, [make(1, **fitting), make(2, **fitting)]) == 0
    assert len(rows(tmp_path, name)) == 2


@pytest.mark.parametrize("more", ["[]", '[{"question_id": 3}]', "x", "null"])
@pytest.mark.parametrize("name", ["pope", "seed-img", "textvqa", "gqa"])
def test_text_after_the_end_of_a_file_is_named(name: str, more: str, tmp_path: Path) -> None:
    """As in a file of two lists, of which only the first was read."""
    make, _, write, fitting = MAKERS[name]
    write = json.dumps if name == "pope" else write
    records = [make(1, **fitting), make(2, **fitting)]
    assert prepare(tmp_path, name, records, lambda given: f"{write(given)}\n{more}") == 1
    (found,) = left_out(tmp_path, name)
    assert "something follows its end" in found
    assert len(rows(tmp_path, name)) == 2


@pytest.mark.parametrize("name", ["pope", "seed-img", "textvqa", "gqa"])
def test_a_file_that_breaks_off_gives_the_rows_before_that(name: str, tmp_path: Path) -> None:
    make, _, write, fitting = MAKERS[name]
    write = json.dumps if name == "pope" else write
    records = [make(1, **fitting), make(2, **fitting)]
    assert prepare(tmp_path, name, records, lambda given: write(given)[:-40]) == 1
    (found,) = left_out(tmp_path, name)
    assert "the rest of the file is left out" in found
    assert len(rows(tmp_path, name)) == 1


def test_a_second_list_of_the_same_name_is_named(tmp_path: Path) -> None:
    one = json.dumps([seed(1, data_id="a")])
    assert prepare(tmp_path, "seed-img", [], lambda _: f'{{"questions": {one}, "questions": {one}}}') == 1
    assert "it has 'questions' a second time" in left_out(tmp_path, "seed-img")[0]


def test_a_damaged_annotation_costs_its_question(tmp_path: Path) -> None:
    """Its record's own answer does not take the place of GQA's."""
    records = [mcq(1, image="a.jpg", answer="B"), mcq(2, image="a.jpg", answer="B")]
    (tmp_path / "source").mkdir()
    questions = {"1": gqa(1, answer=["red"]), "2": gqa(2, answer="red")}
    (tmp_path / "source" / GQA).write_text(json.dumps(questions))
    assert prepare(tmp_path, "gqa-mcq", records) == 1
    assert left_out(tmp_path, "gqa-mcq") == [f"question 1 in {GQA}: answer is a list, not text"]
    assert [row["answer"] for row in rows(tmp_path, "gqa-mcq")] == ["red"]


@pytest.mark.parametrize(
    "tokens",
    [
        [{"image_id": "a", "ocr_tokens": [None]}],
        [{"image_id": "a"}],
        [{"image_id": True, "ocr_tokens": []}],
        ["a"],
        [{"image_id": "a", "ocr_tokens": "abc"}],
    ],
)
def test_tokens_of_another_type_are_refused(
    tokens: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "TextVQA_Rosetta_OCR_v0.2_val.json"
    path.write_text(json.dumps({"data": tokens}))
    assert prepare(tmp_path, "textvqa", [textvqa(1, "a")]) == 2
    assert f"{path.name}, entry 1 is no entry with image_id and ocr_tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": ["a"]}, "question is a list, not text"),
        ({"answer": True}, "answer is true, not text"),
        ({"semantic": 5}, "semantic is not a list of objects"),
        ({"semantic": ["a"]}, "semantic is not a list of objects"),
        ({"equivalent": 7}, "equivalent is a number, not a list of texts"),
        ({"groups": "color"}, "groups is text, not an object"),
        ({"types": {"structural": "choose", "semantic": ["attr"]}}, "semantic is a list, not text"),
    ],
)
def test_choices_are_not_built_from_other_types(
    change: Record, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {str(number): gqa(number, types={**gqa(0)["types"], "structural": "choose"}) for number in range(4)}
    file, out = tmp_path / "questions.json", tmp_path / "out.jsonl"
    file.write_text(json.dumps({**good, "bad": {**good["0"], **change}}))
    assert main(["data", "gqa-mcq", "--questions", str(file), "--out", str(out)]) == 1
    assert f"left out questions.json, question bad: {reason}" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 4
