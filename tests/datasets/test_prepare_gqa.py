"""GQA and GQA-MCQ from their official files: rows, joins, and what is left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.datasets.prepared import MANIFEST, image_of

MCQ = "llava_gqa_testdev_balanced_mcq.jsonl"
LETTER_HINT = "Answer with the option's letter from the given choices directly."


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """One of GQA's entries as the release has them."""
    return {
        "semantic": [{"operation": "query", "dependencies": [], "argument": "color"}],
        "entailed": [],
        "equivalent": [str(number)],
        "question": f"What color is thing {number}?",
        "imageId": f"n{number % 4}",
        "isBalanced": True,
        "groups": {"global": "color", "local": "10q-thing_color"},
        "answer": ("red", "blue")[number % 2],
        "semanticStr": "query: color",
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": "color", "semantic": "attr", "structural": "query"},
        "fullAnswer": "It is so.",
        **changes,
    }


def mcq_entry(number: int, **changes: Any) -> dict[str, Any]:
    """A record in the layout that the released code reads."""
    text = f"What color is thing {number}?\nA. red\nB. blue\nC. green\nD. white"
    return {"question_id": str(number), "image": f"n{number % 4}.jpg", "question": text, **changes}


def release(folder: Path, questions: dict[str, Any] | None = None, records: list[dict[str, Any]] | None = None) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (20 + number, 16), (number * 7, 90, 30)).save(folder / "images" / f"n{number}.jpg")
    questions = {str(number): entry(number) for number in range(8)} if questions is None else questions
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    if records is not None:
        (folder / MCQ).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def prepare(source: Path, root: Path, name: str) -> int:
    return main(["data", "prepare", name, "--source", str(source), "--out", str(root)])


def rows(root: Path, name: str) -> Any:
    return load_dataset("parquet", data_files=str(root / name / "testdev.parquet"), split="train")


def reasons(root: Path, name: str) -> dict[str, str]:
    manifest = json.loads((root / name / MANIFEST).read_text())
    return {left["where"]: left["reason"] for left in manifest["left_out"]}


def test_gqa_rows_have_the_hubs_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    assert prepare(release(tmp_path / "source"), root, "gqa") == 0
    found = rows(root, "gqa")
    assert len(found) == 8
    assert found[5] | {"image": None} == {
        "id": "5", "imageId": "n1", "question": "What color is thing 5?", "isBalanced": True,
        "groups": {"global": "color", "local": "10q-thing_color"},
        "types": {"structural": "query", "semantic": "attr", "detailed": "color"},
        "semanticStr": "query: color", "answer": "blue", "fullAnswer": "It is so.", "image": None,
    }  # fmt: skip
    assert len(list((root / "gqa/images").iterdir())) == 4
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    assert image_of(found[5]["image"]).size == (21, 16)


def test_bad_entries_of_gqa_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions: dict[str, Any] = {str(number): entry(number) for number in range(8)}
    questions["0"] = "not an entry"
    questions["1"] = entry(1, answer=" ", imageId=None)
    questions["2"] = entry(2, types={"structural": "riddle"})
    questions["3"] = entry(3, imageId="nowhere")
    del questions["4"]["types"]
    source, root = release(tmp_path / "source", questions), tmp_path / "root"
    damaged = source / "images" / "n1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert prepare(source, root, "gqa") == 1
    found = reasons(root, "gqa")
    name = "testdev_balanced_questions.json, question"
    assert found[f"{name} 0"] == "is not a JSON object"
    assert found[f"{name} 1"] == "lacks imageId, answer"
    assert found[f"{name} 2"] == "structural type 'riddle' is none of query, verify, choose, logical, compare"
    assert found[f"{name} 3"] == "image nowhere is not in the source folder"
    assert found[f"{name} 4"] == "lacks types"
    assert "image n1.jpg: OSError: " in found[f"{name} 5"]
    assert sorted(rows(root, "gqa")["id"]) == ["6", "7"]
    assert main(["data", "verify", "gqa", "--out", str(root)]) == 1
    assert "2 questions, published are 12578" in capsys.readouterr().err


def test_a_question_id_that_occurs_twice_counts_once(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    first, second = json.dumps(entry(1)), json.dumps(entry(1, answer="green"))
    (source / "testdev_balanced_questions.json").write_text(f'{{"1": {first}, "1": {second}}}')
    assert prepare(source, root, "gqa") == 1
    assert rows(root, "gqa")["answer"][:] == ["blue"]
    assert list(reasons(root, "gqa").values()) == ["question id 1 occurs a second time"]


@pytest.mark.parametrize("content", ['{"1": {"image', "[]", "\ufeff", ""])
def test_a_question_file_that_is_not_gqas_is_one_clear_line(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = release(tmp_path / "source")
    (source / "testdev_balanced_questions.json").write_text(content)
    assert prepare(source, tmp_path / "root", "gqa") == 2
    message = capsys.readouterr().err
    assert "testdev_balanced_questions.json is not" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", ["gqa", "gqa-mcq"])
def test_an_empty_folder_says_what_it_lacks(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    assert prepare(tmp_path / "source", tmp_path / "root", name) == 2
    assert {"gqa": "testdev_balanced_questions.json", "gqa-mcq": MCQ}[name] in capsys.readouterr().err


def test_choices_are_split_and_joined_with_gqas_answers(tmp_path: Path) -> None:
    source = release(tmp_path / "source", records=[mcq_entry(number) for number in range(8)])
    assert prepare(source, tmp_path / "root", "gqa-mcq") == 0
    assert rows(tmp_path / "root", "gqa-mcq")[3] | {"image": None} == {
        "question_id": "3", "image_id": "n3", "text": "What color is thing 3?\nA. red\nB. blue\nC. green\nD. white",
        "stem": "What color is thing 3?", "options": ["red", "blue", "green", "white"], "answer": "blue",
        "question_type": "query", "image": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"question": None, "text": f"What color is thing 3?\nA. red\nB. blue\n{LETTER_HINT}"},
        {"question": "What color is thing 3?", "text": "What color is thing 3?\nA. red\nB. blue"},
        {"question_id": None, "id": 3, "category": "default"},
        {"question": "What color is thing 3?\nA) red\nB) blue", "answer": "red"},
    ],
)
def test_records_are_read_in_llavas_layout_too(tmp_path: Path, changes: dict[str, Any]) -> None:
    source = release(tmp_path / "source", records=[mcq_entry(3, **changes)])
    assert prepare(source, tmp_path / "root", "gqa-mcq") == 0
    row = rows(tmp_path / "root", "gqa-mcq")[0]
    assert (row["question_id"], row["stem"], row["options"][:2]) == ("3", "What color is thing 3?", ["red", "blue"])
    assert (row["answer"], row["question_type"]) == ("blue", "query")
    assert LETTER_HINT not in row["text"]


@pytest.mark.parametrize(
    ("own", "answer"),
    [({"answer": "blue"}, "blue"), ({"label": "B"}, "blue"), ({"answer": "(b)"}, "blue"), ({"answer": "Red."}, "red")],
)
def test_without_gqas_annotation_the_records_own_answer_counts(
    tmp_path: Path, own: dict[str, str], answer: str
) -> None:
    source = release(tmp_path / "source", records=[mcq_entry(3, question_type="query", **own)])
    (source / "testdev_balanced_questions.json").unlink()
    assert prepare(source, tmp_path / "root", "gqa-mcq") == 0
    row = rows(tmp_path / "root", "gqa-mcq")[0]
    assert (row["answer"], row["question_type"]) == (answer, "query")


def test_bad_records_are_left_out_by_name(tmp_path: Path) -> None:
    records = [
        mcq_entry(0),
        mcq_entry(1, question=None, image=None),
        mcq_entry(2, question="What color is thing 2?"),
        mcq_entry(3, image="nowhere.jpg"),
        mcq_entry(90),
        mcq_entry(91, answer="teal"),
        mcq_entry(0),
        {},
    ]
    source, root = release(tmp_path / "source", records=records), tmp_path / "root"
    with (source / MCQ).open("a") as file:
        file.write('{"question_id": "4", "ima\n["5"]\n')
    assert prepare(source, root, "gqa-mcq") == 1
    found = {where.removeprefix(f"{MCQ}:"): reason for where, reason in reasons(root, "gqa-mcq").items()}
    assert found["2"] == "lacks image, question"
    assert found["3"].startswith("question 2: no options")
    assert found["4"] == "image nowhere is not in the source folder"
    assert found["5"].startswith("question 90: no right answer: it is not in testdev_balanced_questions.json")
    assert found["6"] == "question 91: answer 'teal' is none of its options"
    assert found["7"] == "question id 0 occurs a second time"
    assert found["8"] == "lacks question_id, image, question"
    assert found["9"].startswith("is not JSON")
    assert found["10"] == "is not a JSON object"
    assert rows(root, "gqa-mcq")["question_id"][:] == ["0"]


def test_a_right_answer_among_no_option_is_kept(tmp_path: Path) -> None:
    """The published set's questions are all scored; the task counts those that no letter can answer."""
    questions = {"3": entry(3, answer="teal")}
    source = release(tmp_path / "source", questions, [mcq_entry(3)])
    assert prepare(source, tmp_path / "root", "gqa-mcq") == 0
    assert rows(tmp_path / "root", "gqa-mcq")[0]["answer"] == "teal"
