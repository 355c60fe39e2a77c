"""MME-RealWorld-Lite's release to prepared questions: what is kept, what is left out and why."""

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
from dualfocus_eval.datasets.mme_realworld import MME_REALWORLD_LITE, OPTIONS
from dualfocus_eval.datasets.prepared import MANIFEST

Record = dict[str, Any]
CHOICES = ["(A) Nutty", "(B) Sweet & Sour", "(C) Chili", "(D) Plain", "(E) The image does not feature the content."]


def question(number: int, **more: Any) -> Record:
    return {
        "Question_id": f"perception/ocr_cc/book_map_poster/{number:04d}", "Image": "a.png", "Text": "Which dish?",
        "Question Type": "Multiple Choice", "Answer choices": CHOICES, "Ground truth": "B",
        "Category": "book_map_poster", "Subtask": "OCR with Complex Context", "Task": "Perception", **more,
    }  # fmt: skip


def prepare(folder: Path, records: Any) -> int:
    """The official layout: a list of questions, and the images in a folder beside it."""
    (folder / "data/imgs").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "data/imgs/a.png")
    (folder / "data/MME-RealWorld-Lite.json").write_text(json.dumps(records))
    return main(["data", "prepare", "mme-realworld-lite", "--source", str(folder), "--out", str(folder / "root")])


def rows(folder: Path) -> Any:
    path = folder / "root/mme-realworld-lite/train.parquet"
    return load_dataset("parquet", data_files=str(path), split="train")


def test_rows_have_the_hubs_columns_and_are_what_the_task_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(tmp_path, [question(1), question(2, Task="Reasoning", Subtask="Monitoring")]) == 0
    found = rows(tmp_path)
    assert found.remove_columns("image")[0] == {
        "index": "perception/ocr_cc/book_map_poster/0001", "question": "Which dish?", "answer": "B",
        "category": "Perception/OCR with Complex Context", "l2-category": "book_map_poster", OPTIONS: CHOICES,
    }  # fmt: skip
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path / "root"))
    path = resource_folder("tasks") / "mme_realworld/df_mme_realworld_lite.yaml"
    config = load_yaml_config(str(path), mode="full")
    documents = config["process_docs"](found)
    assert documents[0]["options"] == [choice[4:] for choice in CHOICES]
    assert config["doc_to_visual"](documents[0])[0].size == (30, 20)
    assert config["process_results"](documents[1], ["B"])["reasoning_monitoring"]["score"] == 1.0
    assert MME_REALWORLD_LITE.counts == {"train": 1919}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Text": None}, "lacks Text"),
        ({"Text": ["a"]}, "Text is a list, not text"),
        ({"Answer choices": CHOICES[:1]}, "has 1 options, not two to five"),
        ({"Answer choices": "(A) a"}, "Answer choices is text, not a list of texts"),
        ({"Ground truth": "F"}, "answer 'F' is none of A, B, C, D, E"),
        ({"Ground truth": "C", "Answer choices": CHOICES[:2]}, "answer 'C' is none of A, B"),
        ({"Task": "Perception "}, "task 'Perception ' or subtask 'OCR with Complex Context' is none of Perception, "),
        ({"Subtask": "OCR"}, "subtask 'OCR' is none of"),
        ({"Image": "b.png"}, "image b.png is not in the source folder"),
        ({"Question_id": question(1)["Question_id"]}, "occurs a second time"),
    ],
)
def test_bad_records_are_left_out_by_name(tmp_path: Path, change: Record, reason: str) -> None:
    assert prepare(tmp_path, [question(1), question(2) | change, question(3)]) == 1
    assert [name[-4:] for name in rows(tmp_path)["index"]] == ["0001", "0003"]
    (entry,) = json.loads((tmp_path / "root/mme-realworld-lite" / MANIFEST).read_text())["left_out"]
    assert entry["where"] == "MME-RealWorld-Lite.json, entry 2"
    assert reason in entry["reason"]


def test_a_folder_without_the_question_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", str(tmp_path), "--out", str(tmp_path / "root")]
    assert main(["data", "prepare", "mme-realworld-lite", *arguments]) == 2
    assert f"no MME-RealWorld-Lite.json below {tmp_path}" in capsys.readouterr().err
