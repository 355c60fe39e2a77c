"""The table of answers as W&B stores it in an artifact; no run and no network are needed for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.export import wandb_table
from dualfocus_eval.export.wandb_table import answers_table
from dualfocus_eval.report.kept_pictures import kept_pictures
from tests.analysis.runs import SCENES, answered, scene
from tests.export.test_export import KEPT, made_run, questions


def stored(run: Run) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """The rows of the table, and the files that they name."""
    artifact = wandb.Artifact("answers", type="run_table")
    artifact.add(answers_table(run, kept_pictures(run).files), "answers")
    files = {name: Path(entry.local_path) for name, entry in artifact.manifest.entries.items()}
    table = json.loads(files["answers.table.json"].read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]], files


def test_pictures_boxes_and_crops(tmp_path: Path) -> None:
    rows, files = stored(made_run(tmp_path / "run", questions()))
    first, bad, alone, failed = rows
    assert Image.open(files[first["image"]["path"]]).size == (40, 20)
    assert Image.open(files[first["crop"]["path"]]).size == (12, 12)  # 120 of 400 by 120 of 200 pixels
    found = first["image"]["boxes"]["boxes"]
    assert [box["box_caption"] for box in found] == ["box", "sub-region", "truth"]
    assert found[0]["position"] == {"minX": 0.1, "minY": 0.1, "maxX": 0.3, "maxY": 0.5}
    assert (first["macro"], first["micro"], first["selected"], first["outcome"]) == ("blue", "red", "micro", "gained")
    assert (bad["image"], bad["crop"]) == (None, None)
    assert "\u202e" not in bad["macro"]
    assert (alone["micro"], alone["crop"], alone["macro_perplexity"]) == (None, None, None)
    assert (failed["macro"], failed["outcome"]) == (None, "failed")


def test_many_questions_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_table, "ROWS", 3)
    asked = [answered(SCENES, scene(n, "red"), "blue", "red", doc_id=n, image=KEPT) for n in range(7)]
    rows, _ = stored(made_run(tmp_path / "run", asked))
    assert [row["key"] for row in rows] == [f"{SCENES}/{number}" for number in (0, 2, 4)]
