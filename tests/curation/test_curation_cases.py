"""Every hand-worked question gets the verdict written beside it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dualfocus_eval.cli.main import main
from tests.curation.curation_cases import all_places, cases, release

CASES = cases()


def write(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in content.items():
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """Reason or sample by question id."""
    folder = tmp_path_factory.mktemp("cases")
    source, out = write(folder / "source", release()), folder / "out"
    assert main(["data", "vg", "--source", str(source), "--out", str(out), "--workers", "1"]) == 0
    rows = {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in TABLES}
    found: dict[int, Any] = {row["qa_id"]: row["reason"] for row in rows["excluded"]}
    assert not found.keys() & {row["qa_id"] for row in rows["samples"]}
    return found | {row["qa_id"]: row for row in rows["samples"]}


TABLES = ("samples", "excluded")


def test_there_are_enough_of_every_sort() -> None:
    assert len(CASES) >= 200
    sorts = Counter("box" if case.verdict[0].isdigit() else case.verdict.split()[0] for case in CASES)
    assert min(sorts.values()) >= 3
    assert {"box", "region", "ambiguous", "no_box", "outside_image", "too_small", "unchecked"} <= sorts.keys()


def test_every_question_has_one_verdict(verdicts: dict[int, Any]) -> None:
    assert sorted(verdicts) == [case.qa_id for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.qa_id} {case.text}")
def test_the_verdict_is_the_one_worked_out_by_hand(case: Any, verdicts: dict[int, Any]) -> None:
    found = verdicts[case.qa_id]
    if isinstance(found, dict):
        width, height = list(all_places().values())[case.image_id - 1].size
        box = [value * side for value, side in zip(found["box"], (width, height) * 2, strict=True)]
        pixels = ",".join(f"{round(value, 2):g}" for value in box)
        found = f"region {pixels}" if found["box_from"] == "region" else pixels
    assert found == case.verdict
