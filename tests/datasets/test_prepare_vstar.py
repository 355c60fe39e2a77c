"""V*Bench's release to prepared questions: boxes from the annotations, and what is left out and why."""

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
from dualfocus_eval.datasets.vstar import VSTAR
from dualfocus_eval.harness.structure import read_structure

Record = dict[str, Any]
HINT = "Answer with the option's letter from the given choices directly."
TEXT = f"What is the color of the cup?\n(A) red\n(B) light blue\n(C) green\n(D) white\n{HINT}"
LEFT = f"Is the cup on the left or right side of the lamp?\n(A) right\n(B) left\n{HINT}"


def question(number: int, image: str = "direct_attributes/sa_1.jpg", **more: Any) -> Record:
    category = image.split("/")[0]
    return {"image": image, "text": TEXT, "category": category, "label": "B", "question_id": number, **more}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The official layout, below a folder of its own: an image of the same name in both categories."""
    folder = tmp_path / "source" / "vstar_bench"
    boxes = {"direct_attributes": [[3, 4, 10, 6]], "relative_position": [[1, 2, 3, 4], [20, 10, 5, 5]]}
    for color, (category, found) in zip(("navy", "maroon"), boxes.items(), strict=True):
        (folder / category).mkdir(parents=True)
        Image.new("RGB", (60, 40), color).save(folder / category / "sa_1.jpg")
        annotation = {"target_object": ["cup"], "bbox": found, "question": "What?", "options": ["light blue", "red"]}
        (folder / category / "sa_1.json").write_text(json.dumps(annotation))
    write(folder.parent, [question(0), question(1, "relative_position/sa_1.jpg", text=LEFT)])
    return folder.parent


def write(source: Path, records: list[Any]) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (source / "vstar_bench/test_questions.jsonl").write_text(lines)


def prepare(source: Path, root: Path) -> int:
    return main(["data", "prepare", "vstar", "--source", str(source), "--out", str(root)])


def rows(root: Path) -> Any:
    return load_dataset("parquet", data_files=str(root / "vstar/test.parquet"), split="train")


def reasons(root: Path) -> dict[str, str]:
    manifest = json.loads((root / "vstar" / MANIFEST).read_text())
    return {entry["where"].rpartition(":")[2]: entry["reason"] for entry in manifest["left_out"]}


def test_rows_have_the_hubs_columns_and_boxes_and_are_what_the_tasks_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    assert prepare(source, root) == 0
    found = rows(root)
    assert found.remove_columns("image")[:] == {
        "text": [TEXT, LEFT],
        "category": ["direct_attributes", "relative_position"],
        "label": ["B", "B"],
        "question_id": ["0", "1"],
        "box": [[3, 4, 13, 10], [1, 2, 25, 15]],
    }
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    config = load_yaml_config(str(resource_folder("tasks") / "vstar/df_vstar.yaml"), mode="full")
    documents = config["process_docs"](found)
    structure = read_structure(config["metadata"], "df_vstar")
    assert [structure.stem_of(document) for document in documents] == [TEXT.split("\n")[0], LEFT.split("\n")[0]]
    assert [structure.options_of(document) for document in documents] == [
        ("red", "light blue", "green", "white"), ("right", "left"),
    ]  # fmt: skip
    pictures = [config["doc_to_visual"](document)[0] for document in documents]
    assert [picture.getpixel((5, 5))[2] > 60 for picture in pictures] == [True, False]
    truth = structure.truth_of(documents[0], pictures[0].size)
    assert (truth.x1, truth.y1, truth.x2, truth.y2) == pytest.approx((3 / 60, 4 / 40, 13 / 60, 10 / 40))
    assert config["process_results"](documents[1], ["(B)"])["relative_position"]["score"] == 1.0


def test_published_counts_are_verified(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (VSTAR.counts, VSTAR.images) == ({"test": 115 + 76}, 191)
    prepare(source, tmp_path)
    assert main(["data", "verify", "vstar", "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "vstar/test: 2 questions, published are 191" in message
    assert "vstar: 2 images, published are 191" in message


def test_an_annotation_may_be_missing_or_hold_one_box(source: Path, tmp_path: Path) -> None:
    (source / "vstar_bench/relative_position/sa_1.json").unlink()
    (source / "vstar_bench/direct_attributes/sa_1.json").write_text('{"bbox": [3, 4, 10, 6]}')
    assert prepare(source, tmp_path / "root") == 0
    assert rows(tmp_path / "root")["box"][:] == [[3, 4, 13, 10], None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": "What is it?"}, "text is no question with two to four options"),
        ({"text": ["What?"]}, "text is a list, not text"),
        ({"label": "E"}, "label 'E' is none of A, B, C, D"),
        ({"label": "C", "text": LEFT}, "label 'C' is none of A, B"),
        ({"label": None}, "lacks label"),
        ({"category": "OCR"}, "category 'OCR' is none of direct_attributes, relative_position"),
        ({"image": "../sa_1.jpg"}, "image ../sa_1.jpg is no path below the folder of test_questions.jsonl"),
        ({"image": "/sa_1.jpg"}, "image /sa_1.jpg is no path"),
        ({"image": "direct_attributes/sa_2.jpg"}, "image direct_attributes-sa_2.jpg cannot be read: No such file"),
        ({"question_id": 0}, "question id direct_attributes/0 occurs a second time"),
    ],
)
def test_bad_records_are_left_out_by_name(
    source: Path, tmp_path: Path, change: Record, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, [question(0), question(1) | change, question(2)])
    assert prepare(source, tmp_path / "root") == 1
    assert rows(tmp_path / "root")["question_id"][:] == ["0", "2"]
    (found,) = reasons(tmp_path / "root").values()
    assert found.startswith(reason)
    assert f"left out test_questions.jsonl:2: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "boxes", ["[]", "[[1, 2, 3]]", '"a"', '[["a", 1, 2, 3]]', "[[1, 2, 0, 4]]", "[[1, 2, 1e999, 4]]"]
)
def test_a_broken_annotation_costs_its_question(source: Path, tmp_path: Path, boxes: str) -> None:
    (source / "vstar_bench/direct_attributes/sa_1.json").write_text(f'{{"bbox": {boxes}}}')
    assert prepare(source, tmp_path / "root") == 1
    assert "sa_1.json holds" in reasons(tmp_path / "root")["1"]


def test_a_folder_without_the_question_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, tmp_path / "root") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no test_questions.jsonl below {tmp_path}: this is V*Bench's question file" in line
