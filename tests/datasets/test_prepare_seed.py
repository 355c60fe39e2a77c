"""SEED-Bench's release to the prepared image questions: what is kept, what is left out and why."""

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
from dualfocus_eval.datasets.seed import SEED_IMG

Record = dict[str, Any]
PER_DIMENSION = (3158, 1831, 4649, 978, 2447, 657, 97, 331, 85)
"""Published numbers of image questions."""


def question(number: int, dimension: int = 5, **more: Any) -> Record:
    return {
        "answer": "B", "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four",
        "data_id": "1454426_2591111986", "data_type": "image", "question": f"How many towels, {number}?",
        "question_id": str(number), "question_type_id": dimension, **more,
    }  # fmt: skip


def write_questions(folder: Path, questions: Any) -> None:
    release = {"questions": questions, "question_type": {"Scene Understanding": 1, "Instance Identity": 2}}
    (folder / "SEED-Bench.json").write_text(json.dumps(release))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Nine image questions, one per dimension, a video question, and images without a suffix, as released."""
    folder = tmp_path / "source"
    (folder / "SEED-Bench-image").mkdir(parents=True)
    for name in ("1454426_2591111986", "77_88"):
        Image.new("RGB", (30, 20), "navy").save(folder / "SEED-Bench-image" / name, "JPEG")
    video = question(10, 10, data_type="video", data_id="v.webm", segment=[0, 1])
    write_questions(folder, [*(question(number, number) for number in range(1, 10)), video])
    return folder


def prepare(source: Path, root: Path) -> int:
    return main(["data", "prepare", "seed-img", "--source", str(source), "--out", str(root)])


def rows(root: Path) -> Any:
    return load_dataset("parquet", data_files=str(root / "seed-img/test.parquet"), split="train")


def test_the_published_counts_are_those_of_the_dimensions() -> None:
    assert SEED_IMG.counts == {"test": sum(PER_DIMENSION)} == {"test": 14233}


def test_rows_have_the_hubs_columns_and_are_what_the_task_reads(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    assert prepare(source, root) == 0
    found = rows(root)
    assert found["question_type_id"][:] == list(range(1, 10))
    assert found[4] | {"image": None} == question(5) | {"image": None}
    assert [path.name for path in (root / "seed-img/images").iterdir()] == ["1454426_2591111986"]
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    config = load_yaml_config(str(resource_folder("tasks") / "seed/df_seed_img.yaml"), mode="full")
    assert len(config["process_docs"](found)) == 9
    assert config["doc_to_visual"](found[4])[0].size == (30, 20)
    assert config["process_results"](found[4], ["B"])["instances_counting"]["score"] == 1.0


def test_bad_questions_are_left_out_by_name(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, damaged = tmp_path / "root", source / "SEED-Bench-image" / "77_88"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    questions: list[Any] = [
        question(1),
        ["no object"],
        question(2, choice_d=None),
        question(3, answer="E"),
        question(4, 10),
        question(5, data_id="99_99"),
        question(6, data_id="77_88"),
        question(1),
        question(7, answer=" b"),
    ]
    write_questions(source, questions)
    assert prepare(source, root) == 1
    manifest = json.loads((root / "seed-img" / MANIFEST).read_text())
    reasons = {entry["where"].split(" ")[-1]: entry["reason"] for entry in manifest["left_out"]}
    expected = {
        "2": "is not a JSON object",
        "3": "lacks choice_d",
        "4": "question 3: answer 'E' is none of A, B, C, D",
        "5": "question 4: dimension 10 is none of 1 to 9",
        "6": "image 99_99 is not in the source folder",
        "7": "image 77_88: OSError: ",
        "8": "question id 1 occurs a second time",
    }
    assert reasons.keys() == expected.keys()
    assert all(part in reasons[entry] for entry, part in expected.items())
    assert rows(root)["question_id"][:] == ["1", "7"]
    capsys.readouterr()
    assert main(["data", "verify", "seed-img", "--out", str(root)]) == 1
    message = capsys.readouterr().err
    assert "question 3: answer 'E' is none of A, B, C, D" in message
    assert "seed-img/test: 2 questions, published are 14233" in message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"questions": null}', '{"questions": {"a": 1}}'])
def test_a_file_of_another_kind_is_one_clear_line(
    source: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "SEED-Bench.json").write_text(content)
    assert prepare(source, tmp_path / "root") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "SEED-Bench.json is not JSON of the release's form" in line


@pytest.mark.parametrize("videos_only", [False, True])
def test_a_folder_without_image_questions_says_so(
    source: Path, tmp_path: Path, videos_only: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if videos_only:
        write_questions(source, [question(1, data_type="video")])
    else:
        (source / "SEED-Bench.json").unlink()
    assert prepare(source, tmp_path / "root") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("no usable question of SEED-Bench, images" if videos_only else "no SEED-Bench.json below") in line
