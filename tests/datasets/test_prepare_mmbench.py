"""MMBench's tables, with every image repeated or referred to: what is kept, and what is left out by name."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Rejected, Row
from dualfocus_eval.datasets.mmbench import MMBENCH_EN
from dualfocus_eval.datasets.prepare import prepare
from dualfocus_eval.datasets.prepared import MANIFEST, image_of, verify

HEADER = [
    "index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category", "comment",
    "split",
]  # fmt: skip
DEV = "mmbench_dev_20230712.tsv"


def encoded(color: int, kind: str = "JPEG") -> str:
    content = io.BytesIO()
    Image.new("RGB", (24, 16), (color, 90, 30)).save(content, kind)
    return base64.b64encode(content.getvalue()).decode()


def entry(index: int, answer: str = "A", image: str | None = None, **more: str) -> dict[str, str]:
    return {
        "index": str(index), "question": f"What is {index % 1_000_000}?", "hint": "", "A": "red", "B": 'a "blue"\tone',
        "C": "", "D": "", "answer": answer, "category": "ocr", "image": image or encoded(index * 40 % 200),
        "source": "s", "l2-category": "coarse_perception", "comment": "", "split": "dev", **more,
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, str]], header: list[str] = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, delimiter="\t", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(source: Path) -> tuple[list[Row], dict[str, str]]:
    found = list(MMBENCH_EN.rows(source))
    return [row for row in found if isinstance(row, Row)], {
        row.where: row.reason for row in found if isinstance(row, Rejected)
    }


def test_rows_have_the_hubs_columns_and_images_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    rows = [entry(7, hint="one\ntwo", C="nan"), entry(1_000_007, "B"), entry(8), entry(1_000_008, "B")]
    write(source / DEV, rows)
    test = [row for row in HEADER if row != "answer"]
    write(source / "mmbench_test_20230712.tsv", [entry(9), entry(207)], test)
    manifest = prepare(MMBENCH_EN, source, root)
    assert {split: found["rows"] for split, found in manifest["splits"].items()} == {"dev": 4, "test": 2}
    assert manifest["left_out"] == []
    assert len(list((root / "mmbench-en/images").iterdir())) == manifest["images"] == 3
    table = load_dataset("parquet", data_files=str(root / "mmbench-en/dev.parquet"), split="train")
    assert table.column_names == [
        "index", "question", "hint", "answer", "A", "B", "C", "D", "category", "source", "l2-category", "comment",
        "split", "image",
    ]  # fmt: skip
    assert table[0] | {"image": None} == {
        "index": 7, "question": "What is 7?", "hint": "one\ntwo", "answer": "A", "A": "red", "B": 'a "blue"\tone',
        "C": None, "D": None, "category": "ocr", "source": "s", "l2-category": "coarse_perception", "comment": None,
        "split": "dev", "image": None,
    }  # fmt: skip
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    assert image_of(table[1]["image"]).size == (24, 16)
    held = load_dataset("parquet", data_files=str(root / "mmbench-en/test.parquet"), split="train")
    assert held["answer"][:] == [None, None]
    assert list(verify(MMBENCH_EN, root)) == [
        "mmbench-en/dev: 4 questions, published are 4377", "mmbench-en/test: 2 questions, published are 6718",
    ]  # fmt: skip


def test_an_image_may_be_a_reference_to_an_earlier_or_later_row(tmp_path: Path) -> None:
    rows = [entry(7), entry(1_000_007, image="7"), entry(1_000_008, image="8"), entry(8, image=encoded(8, "PNG"))]
    write(tmp_path / "source" / DEV, rows)
    manifest = prepare(MMBENCH_EN, tmp_path / "source", tmp_path / "root")
    assert manifest["images"] == 2
    assert manifest["left_out"] == []
    table = load_dataset("parquet", data_files=str(tmp_path / "root/mmbench-en/dev.parquet"), split="train")
    images = table.data.column("image").to_pylist()
    paths = {index: image["path"] for index, image in zip(table["index"], images, strict=True)}
    assert paths[7] == paths[1_000_007]
    assert paths[8] == paths[1_000_008]
    assert paths[8].endswith(".png")


def test_bad_rows_are_left_out_by_name_and_the_others_prepared(tmp_path: Path) -> None:
    path = write(
        tmp_path / DEV,
        [
            entry(1),
            entry(2, image="not base64!"),
            entry(3, answer="C"),
            entry(4, answer=""),
            entry(5, image="99"),
            entry(1_000_003, image="3"),
            entry(6, B=""),
            entry(7, D="last"),
            entry(8, question=" "),
            entry(9) | {"index": "nine"},
            entry(10, image=" "),
            entry(11),
            entry(12, image="5"),
        ],
    )
    with path.open("ab") as file:
        file.write(b"13\tshort\n\n")
        file.write("\t".join(entry(14, B="x", category="caf\xe9").values()).encode("latin-1") + b"\n")
    rows, rejected = read(tmp_path)
    assert [row.key for row in rows] == ["1", "11"]
    assert "question 2: its image is not base64" in rejected[f"{DEV}:3"]
    assert rejected[f"{DEV}:4"] == "question 3: answer 'C' is none of A, B"
    assert rejected[f"{DEV}:5"] == "question 4: answer '' is none of A, B"
    assert rejected[f"{DEV}:6"] == "question 5: takes its image from row 99, which gives none"
    assert rejected[f"{DEV}:7"] == "question 1000003: takes its image from row 3, which gives none"
    assert "question 6: has texts for the options A:" in rejected[f"{DEV}:8"]
    assert "question 7: has texts for the options A, B, D:" in rejected[f"{DEV}:9"]
    assert rejected[f"{DEV}:10"] == "question 8: has no question"
    assert rejected[f"{DEV}:11"] == "index 'nine' is no whole number"
    assert rejected[f"{DEV}:12"] == "question 10: its image is not base64: the cell is empty"
    assert rejected[f"{DEV}:14"] == "question 12: takes its image from row 5, which gives none"
    assert rejected[f"{DEV}:15"] == "has 2 columns, not 14"
    assert rejected[f"{DEV}:17"] == "question 14: is not UTF-8"
    assert len(rejected) == 13


def test_a_damaged_image_and_a_second_index_are_left_out(tmp_path: Path) -> None:
    content = base64.b64decode(encoded(5))
    source, root = tmp_path / "source", tmp_path / "root"
    damaged = base64.b64encode(content[:-60]).decode()
    rows = [
        entry(1),
        entry(1, image=encoded(77)),
        entry(2, image=damaged),
        entry(3, image=base64.b64encode(b"x").decode()),
    ]
    write(source / DEV, [*rows, entry(1_000_001, image="1"), entry(1_000_002, image="2")])
    manifest = prepare(MMBENCH_EN, source, root)
    reasons = {row["where"]: row["reason"] for row in manifest["left_out"]}
    assert reasons[f"{DEV}:3"] == "question id 1 occurs a second time"
    assert "runcated" in reasons[f"{DEV}:4"]
    assert "no image in one of the formats JPEG" in reasons[f"{DEV}:5"]
    assert "runcated" in reasons[f"{DEV}:7"]
    assert manifest["splits"]["dev"]["rows"] == 2
    assert json.loads((root / "mmbench-en" / MANIFEST).read_text())["left_out"] == manifest["left_out"]


@pytest.mark.parametrize("column", ["answer", "image", "l2-category", "D"])
def test_a_table_without_a_column_is_named_and_the_other_one_read(tmp_path: Path, column: str) -> None:
    write(tmp_path / DEV, [entry(1)], [name for name in HEADER if name != column])
    write(tmp_path / "mmbench_test_20230712.tsv", [entry(2)])
    rows, rejected = read(tmp_path)
    assert [(row.split, row.key) for row in rows] == [("test", "2")]
    assert rejected == {f"{DEV}:1": f"lacks the columns {column}"}


def test_an_open_quotation_mark_or_an_endless_cell_is_one_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / DEV, [entry(1)])
    with path.open("a") as file:
        file.write('2\t"What\n3\tis\n')
    rows, rejected = read(tmp_path)
    assert [row.key for row in rows] == ["1"]
    assert rejected == {f"{DEV}:4": "has 2 columns, not 14"}
    limit = csv.field_size_limit(2000)
    monkeypatch.setattr("dualfocus_eval.datasets.tsv.LONGEST_CELL", 0)
    try:
        write(path, [entry(1), entry(2, hint="x" * 3000), entry(3)])
        rows, rejected = read(tmp_path)
    finally:
        csv.field_size_limit(limit)
    assert [row.key for row in rows] == ["1", "3"]
    assert "cannot be read: field larger than field limit" in rejected[f"{DEV}:3"]


@pytest.mark.parametrize("content", [None, "", "\t".join(HEADER)])
def test_a_folder_that_is_no_release_says_what_is_expected(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / DEV).write_text(content)
    with pytest.raises(UserError, match="mmbench_dev_20230712"):
        prepare(MMBENCH_EN, tmp_path, tmp_path / "root")


def test_only_the_papers_release_is_read(tmp_path: Path) -> None:
    for name in ("mmbench_dev_en_20231003.tsv", "MMBench_DEV_EN.tsv"):
        write(tmp_path / name, [entry(1)])
    with pytest.raises(UserError, match=r"mmbench_dev_20230712\.tsv"):
        MMBENCH_EN.files(tmp_path)


def test_reading_holds_no_images(tmp_path: Path) -> None:
    """The rows kept back for images to come carry none."""
    import tracemalloc

    def peak(count: int) -> int:
        write(
            tmp_path / DEV, [entry(number, image=base64.b64encode(bytes(200_000)).decode()) for number in range(count)]
        )
        tracemalloc.start()
        for _ in MMBENCH_EN.rows(tmp_path):
            pass
        used: Any = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return int(used)

    assert peak(40) < 1.1 * peak(20)
