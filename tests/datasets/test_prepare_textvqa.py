"""TextVQA's release to prepared splits: what is kept, what is left out and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets.prepared import MANIFEST

Record = dict[str, Any]
TOKENS = "TextVQA_Rosetta_OCR_v0.2_val.json"


def question(number: int, image: str, **more: Any) -> Record:
    return {
        "question": f"what is number {number}?", "image_id": image, "question_id": number, "set_name": "val",
        "image_classes": ["Clock"], "flickr_original_url": "", "flickr_300k_url": "", "image_width": 30,
        "image_height": 20, "question_tokens": ["what"], "answers": [*["nine"] * 9, "ten"], **more,
    }  # fmt: skip


def write_data(path: Path, data: Any) -> None:
    path.write_text(json.dumps({"dataset_type": "val", "dataset_name": "textvqa", "data": data}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three validation questions on two images, with tokens, and one test question without answers."""
    folder = tmp_path / "source"
    for name, image in (("train_images", "aa"), ("train_images", "bb"), ("test_images", "cc")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), "navy").save(folder / name / f"{image}.jpg")
    write_data(folder / "TextVQA_0.5.1_val.json", [question(1, "aa"), question(2, "aa"), question(3, "bb")])
    unanswered = {key: value for key, value in question(9, "cc", set_name="test").items() if key != "answers"}
    write_data(folder / "TextVQA_0.5.1_test.json", [unanswered])
    write_data(folder / TOKENS, [{"image_id": "aa", "ocr_tokens": ["IX", "10"]}, {"image_id": "bb", "ocr_tokens": []}])
    return folder


def prepare(source: Path, root: Path) -> int:
    return main(["data", "prepare", "textvqa", "--source", str(source), "--out", str(root)])


def rows(root: Path, split: str) -> Any:
    return load_dataset("parquet", data_files=str(root / f"textvqa/{split}.parquet"), split="train")


def left_out(root: Path) -> dict[str, str]:
    manifest = json.loads((root / "textvqa" / MANIFEST).read_text())
    return {entry["where"]: entry["reason"] for entry in manifest["left_out"]}


def task(name: str) -> Record:
    config: Record = load_yaml_config(str(resource_folder("tasks") / "textvqa" / f"{name}.yaml"), mode="full")
    return config


def test_rows_have_the_hubs_columns_and_are_what_the_tasks_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    assert prepare(source, root) == 0
    found = task("df_textvqa_val")["process_docs"](rows(root, "validation"))
    assert found[0] | {"image": None} == {
        "image_id": "aa", "question_id": 1, "question": "what is number 1?", "image_width": 30, "image_height": 20,
        "answers": [*["nine"] * 9, "ten"], "image_classes": ["Clock"], "set_name": "val", "ocr_tokens": ["IX", "10"],
        "image": None, "stem": "What is number 1?",
    }  # fmt: skip
    assert sorted(path.name for path in (root / "textvqa/images").iterdir()) == ["aa.jpg", "bb.jpg", "cc.jpg"]
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    for name in ("df_textvqa_val", "df_textvqa_val_ocr"):
        config = task(name)
        assert config["doc_to_visual"](found[0])[0].size == (30, 20)
        assert config["doc_to_text"](found[0]).startswith("What is number 1?\n")
        assert config["process_results"](found[0], ["9"])["score"] == 1.0
    (unanswered,) = rows(root, "test")
    assert unanswered["answers"] == []
    assert task("df_textvqa_test")["process_results"](unanswered, ["x"])["submission"]["question_id"] == 9


def test_tokens_are_optional_and_not_taken_for_none(source: Path, tmp_path: Path) -> None:
    root, file = tmp_path / "root", source / TOKENS
    content = file.read_text()
    file.unlink()
    assert prepare(source, root) == 0
    assert rows(root, "validation")["ocr_tokens"][:] == [None, None, None]
    file.write_text(content)
    assert prepare(source, root) == 0
    assert rows(root, "validation")["ocr_tokens"][:] == [["IX", "10"], ["IX", "10"], []]
    assert rows(root, "test")["ocr_tokens"][:] == [None]


def test_bad_questions_are_left_out_by_name(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    (source / "train_images" / "bb.jpg").write_bytes(b"no image")
    good = question(1, "aa")
    write_data(
        source / "TextVQA_0.5.1_val.json",
        [
            good,
            "a question",
            {key: value for key, value in good.items() if key != "question"},
            question(2, "zz"),
            question(3, "aa", answers=["nine"] * 9),
            question(4, "aa", answers="nine"),
            question(5, "bb"),
            question(6, "aa", question_id="six"),
            question(1, "aa"),
            question(7, "aa"),
        ],
    )
    assert prepare(source, root) == 1
    reasons = [left_out(root).get(f"TextVQA_0.5.1_val.json, entry {number}", "") for number in range(1, 11)]
    expected = (
        "", "is not a JSON object", "lacks question", "image zz is not in the source folder",
        "question 3: expected 10 answers", "answers is text, not a list of texts", "bb.jpg: no image in one of",
        "'six' is not a number", "question id 1 occurs a second time", "",
    )  # fmt: skip
    assert all(part in reason for part, reason in zip(expected, reasons, strict=True))
    assert [bool(reason) for reason in reasons] == [bool(part) for part in expected]
    assert rows(root, "validation")["question_id"][:] == [1, 7]
    assert "question 3: expected 10 answers" in capsys.readouterr().err
    assert main(["data", "verify", "textvqa", "--out", str(root)]) == 1
    message = capsys.readouterr().err
    assert "question 3: expected 10 answers" in message
    assert "textvqa/validation: 2 questions, published are 5000" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("TextVQA_0.5.1_val.json", '{"data": [', "it ends before ]"),
        ("TextVQA_0.5.1_val.json", '{"questions": []}', "it has no 'data'"),
        ("TextVQA_0.5.1_val.json", '{"data": {}}', "expected [, found {"),
        ("TextVQA_0.5.1_val.json", "[]", "expected {, found ["),
        (TOKENS, '{"data": [{"image_id": "aa"}]}', "no entry with image_id and ocr_tokens: lacks ocr_tokens"),
        (TOKENS, "", "expected {, found its end"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_line(
    source: Path, tmp_path: Path, name: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / name).write_text(content)
    assert prepare(source, tmp_path / "root") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert name in line


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    assert prepare(tmp_path / "source", tmp_path / "root") == 2
    assert "no TextVQA_0.5.1_{val,test}.json below" in capsys.readouterr().err
