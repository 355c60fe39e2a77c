"""HR-Bench's tables, with every image in base64: what is kept, and what is left out by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets.base import Rejected, Row
from dualfocus_eval.datasets.hrbench import HR_BENCH
from dualfocus_eval.datasets.prepare import prepare
from tests.datasets.test_prepare_mmbench import encoded, write

HEADER = ["index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image"]


def entry(index: int, **more: str) -> dict[str, str]:
    """Row ``index`` of four per question, its options turned by one from row to row."""
    question, cycle = divmod(index, 4)
    texts = ["27B", "37B", "27D", "27E"]
    turned = texts[cycle:] + texts[:cycle]
    return {
        "index": str(index), "question": f"What is the number, {question}?", "answer": "ABCD"[turned.index("27B")],
        "category": ("single", "cross")[question % 2], **dict(zip("ABCD", turned, strict=True)),
        "cycle_category": str(cycle), "image": encoded(question * 40 % 200), **more,
    }  # fmt: skip


def test_both_tables_have_the_hubs_columns_and_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    write(source / "hr_bench_4k.tsv", [entry(index) for index in range(8)], HEADER)
    write(source / "hr_bench_8k.tsv", [entry(index) for index in range(8, 12)], HEADER)
    manifest = prepare(HR_BENCH, source, root)
    assert {split: found["rows"] for split, found in manifest["splits"].items()} == {"hrbench_4k": 8, "hrbench_8k": 4}
    assert (manifest["images"], manifest["left_out"]) == (3, [])
    table = load_dataset("parquet", data_files=str(root / "hr-bench/hrbench_4k.parquet"), split="train")
    assert table.remove_columns("image")[5] == {
        "index": 5, "question": "What is the number, 1?", "answer": "D", "category": "cross", "A": "37B", "B": "27D",
        "C": "27E", "D": "27B", "cycle_category": "1",
    }  # fmt: skip
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    config = load_yaml_config(str(resource_folder("tasks") / "hrbench/df_hrbench_4k.yaml"), mode="full")
    documents = config["process_docs"](table)
    assert documents["question_number"][:] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert config["doc_to_visual"](documents[5])[0].size == (24, 16)
    assert config["process_results"](documents[5], ["D"])["cross"]["score"] == 1.0
    assert HR_BENCH.counts == {"hrbench_4k": 800, "hrbench_8k": 800}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"index": "one"}, "index 'one' is no whole number"),
        ({"question": " "}, "question 1: has no question"),
        ({"answer": "E"}, "question 1: answer 'E' is none of A, B, C, D"),
        ({"category": "both"}, "question 1: category 'both' is none of single, cross"),
        ({"cycle_category": ""}, "question 1: has no cycle_category"),
        ({"C": ""}, "question 1: has texts for the options A, B, D: must be the first two or more"),
        ({"image": "not base64!"}, "question 1: its image is not base64: "),
    ],
)
def test_bad_rows_are_left_out_by_name(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    write(tmp_path / "hr_bench_4k.tsv", [entry(0), entry(1) | change, entry(2)], HEADER)
    found = list(HR_BENCH.rows(tmp_path))
    assert [row.key for row in found if isinstance(row, Row)] == ["0", "2"]
    (rejected,) = [row for row in found if isinstance(row, Rejected)]
    assert rejected.where == "hr_bench_4k.tsv:3"
    assert rejected.reason.startswith(reason)


@pytest.mark.parametrize("missing", ["cycle_category", "image"])
def test_a_table_without_a_column_says_which(tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "hr_bench_8k.tsv", [entry(0)], [name for name in HEADER if name != missing])
    assert main(["data", "prepare", "hr-bench", "--source", str(tmp_path), "--out", str(tmp_path / "root")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"hr_bench_8k.tsv:1: lacks the columns {missing}" in line
