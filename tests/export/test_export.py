"""Every format read back by the library that its users have; FiftyOne's by what its importer asks for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dualfocus_eval.analysis.cards import Card, cards_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.cli import main as cli
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.export import EXPORTS
from dualfocus_eval.export.columns import schema
from dualfocus_eval.export.exporting import export_run
from dualfocus_eval.traces.pictures import picture_file
from tests.analysis.runs import SCENES, Answered, answered, documents_of, failing, read_with, scene, write_run

EVIL = '<script>alert(1)</script> "quoted"\n\u202e\x00\x1b[31m \U0001f600 ' + "x" * 900
LONE = "half \ud83d of a pair"
KEPT, MISSING = "a" * 32, "b" * 32
FORMATS = ["jsonl", "parquet", "hf-dataset", "fiftyone"]


def questions() -> list[Answered]:
    """Gained with a picture; bad texts and no picture; a NaN perplexity and no second answer; failed."""
    return [
        answered(SCENES, scene(0, "red"), "blue", "red", doc_id=0, image=KEPT, nlls=(0.5, 0.25)),
        answered(SCENES, scene(1, "red"), EVIL, LONE, doc_id=1, image=MISSING),
        answered(SCENES, scene(2, "red"), "red", None, doc_id=2, image=KEPT, nlls=(math.nan, math.nan)),
        failing(answered(SCENES, scene(3, "red"), "x", None, doc_id=3)),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path / "run", questions())


def made_run(folder: Path, asked: Sequence[Answered]) -> Run:
    write_run(folder, asked)
    path = picture_file(folder / "traces", KEPT)
    assert path
    path.parent.mkdir()
    Image.new("RGB", (40, 20), "red").save(path)
    return read_with(folder, asked)


def jsonl_rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "cards.jsonl").read_text(encoding="utf-8").splitlines()]


def test_jsonl(run: Run, tmp_path: Path) -> None:
    left_out = export_run(run, EXPORTS["jsonl"], tmp_path / "out")
    assert left_out == ("1 of 2 pictures are missing from the run's folder.",)
    rows = jsonl_rows(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"{SCENES}/{number}" for number in range(4)]
    assert [row["picture"] for row in rows] == [f"images/{KEPT}.jpg", None, f"images/{KEPT}.jpg", None]
    assert rows[0] | {"picture": None} == json.loads(json.dumps(next(cards_of(run)).to_dict() | {"picture": None}))
    assert rows[1]["macro"]["text"] == EVIL
    assert rows[1]["micro"]["text"] == "half ? of a pair"
    assert (rows[2]["macro"]["nll"], rows[2]["macro"]["perplexity"]) == (None, None)
    assert (rows[3]["image"], rows[3]["error"], rows[3]["outcome"]) == (None, "bad_image", "failed")
    assert Image.open(tmp_path / "out" / rows[0]["picture"]).size == (40, 20)


def test_parquet(run: Run, tmp_path: Path) -> None:
    export_run(run, EXPORTS["jsonl"], tmp_path / "lines")
    export_run(run, EXPORTS["parquet"], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "cards.parquet")
    assert table.schema.equals(schema())
    assert table.to_pylist() == jsonl_rows(tmp_path / "lines")
    frame = pd.read_parquet(tmp_path / "out" / "cards.parquet")
    assert frame["outcome"].tolist() == ["gained", "both_wrong", "right", "failed"]
    assert (tmp_path / "out" / frame["picture"][0]).is_file()


def test_hf_dataset(run: Run, tmp_path: Path) -> None:
    export_run(run, EXPORTS["jsonl"], tmp_path / "lines")
    export_run(run, EXPORTS["hf-dataset"], tmp_path / "out")
    os.rename(tmp_path / "run", tmp_path / "moved")  # the pictures are inside
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert [picture and picture.size for picture in found["picture"]] == [(40, 20), None, (40, 20), None]
    plain = found.remove_columns("picture").to_list()
    assert plain == [
        {name: value for name, value in row.items() if name != "picture"} for row in jsonl_rows(tmp_path / "lines")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "data-00000-of-00001.arrow", "dataset_info.json", "state.json",
    ]  # fmt: skip


def test_fiftyone(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    left_out = export_run(run, EXPORTS["fiftyone"], out)
    assert left_out[1:] == (
        "1 questions are left out: FiftyOne's samples are images, and the image of these is not known",
    )
    about = json.loads((out / "metadata.json").read_text())
    assert (about["media_type"], about["name"], about["info"]["tasks"]) == ("image", "run", [SCENES])
    assert "version" not in about  # it would be read as a dump of a database, ids and dates included
    samples = json.loads((out / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert len(samples) == 3
    for sample in samples:
        assert isinstance(sample["filepath"], str)
        assert not os.path.isabs(sample["filepath"])
        assert sample["tags"] == [SCENES]
        assert not any(name.startswith("_") for name in sample)
        labels_are_fiftyones(sample)
    first = samples[0]
    assert first["filepath"] == f"data/{KEPT}.jpg"
    assert Image.open(out / first["filepath"]).size == (40, 20)
    assert first["box"]["detections"][0]["bounding_box"] == pytest.approx([0.1, 0.1, 0.2, 0.4])
    assert first["sub_region"]["detections"][0]["bounding_box"] == pytest.approx([0.05, 0.05, 0.3, 0.6])
    assert (first["macro"]["label"], first["micro"]["label"], first["outcome"]["label"]) == ("blue", "red", "gained")
    assert first["macro"]["ppl"] == pytest.approx(math.exp(0.5))
    assert (samples[2]["micro"], samples[2]["box"], samples[2]["macro"]["ppl"]) == (None, None, None)


def labels_are_fiftyones(sample: dict[str, Any]) -> None:
    """Every object in a sample says its class, and detections have what FiftyOne's have."""
    for value in sample.values():
        if not isinstance(value, dict):
            continue
        assert value["_cls"] in ("Classification", "Detections")
        if value["_cls"] == "Classification":
            assert isinstance(value["label"], str)
        for detection in value.get("detections", ()):
            assert detection["_cls"] == "Detection"
            assert isinstance(detection["label"], str)
            assert len(detection["bounding_box"]) == 4


def test_fiftyones_box_is_left_top_width_height(tmp_path: Path) -> None:
    asked = [answered(SCENES, scene(0, "red"), "blue", "red", image=KEPT, box=Box(0.25, 0.5, 0.75, 1.0))]
    export_run(made_run(tmp_path / "run", asked), EXPORTS["fiftyone"], tmp_path / "out")
    (sample,) = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert sample["box"]["detections"][0]["bounding_box"] == [0.25, 0.5, 0.5, 0.5]


def test_no_sample_of_fiftyones_names_a_file_elsewhere(tmp_path: Path) -> None:
    asked = [answered(SCENES, scene(0, "red"), "blue", "red", image="../../../etc/passwd")]
    export_run(made_run(tmp_path / "run", asked), EXPORTS["fiftyone"], tmp_path / "out")
    (sample,) = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert (tmp_path / "out" / sample["filepath"]).parent == tmp_path / "out" / "data"


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_that_is_there_stays_as_it_is(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="out is there already: name a new folder"):
        export_run(run, EXPORTS[form], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is there already"):
        export_run(run, EXPORTS[form], tmp_path / "link")


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_folder_is_filled_and_nothing_else_is_left(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "exports" / "out").mkdir(parents=True)
    export_run(run, EXPORTS[form], tmp_path / "exports" / "out")
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["out"]
    assert any((tmp_path / "exports" / "out").iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_breaks_leaves_nothing(
    run: Run, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Card) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Card, "to_dict", broken)
    (tmp_path / "exports").mkdir()
    with pytest.raises(UserError, match="No space left on device"):
        export_run(run, EXPORTS[form], tmp_path / "exports" / "out")
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_run_without_questions_is_a_users_error(run: Run, tmp_path: Path) -> None:
    empty = Run(run.path, run.results, run.record, run.answers.iloc[:0])
    with pytest.raises(UserError, match="has no questions to export"):
        export_run(empty, EXPORTS["jsonl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_schema_has_every_field_of_a_card(run: Run) -> None:
    (card, *_) = cards_of(run)
    assert schema().names == [*card.to_dict(), "picture"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = questions()
    made_run(tmp_path / "run", asked)
    with documents_of(asked):
        status = cli.main(["export", str(tmp_path / "run"), "--to", "jsonl", "--out", str(tmp_path / "out")])
        assert status == 1  # a picture is missing, and a question failed
        output, errors = capsys.readouterr()
        assert "4 questions" in output
        assert "dualfocus export: 1 of 2 pictures are missing" in errors
        assert cli.main(["export", str(tmp_path / "run"), "--to", "json", "--out", str(tmp_path / "other")]) == 2
        assert "Known: fiftyone, hf-dataset, jsonl, parquet." in capsys.readouterr().err
        assert cli.main(["export", str(tmp_path / "none"), "--to", "jsonl", "--out", str(tmp_path / "other")]) == 2
        assert "does not exist" in capsys.readouterr().err
