"""Measured samples are kept, but not what was missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.images import prepare_picture
from dualfocus_eval.training.encoding import training_processor
from dualfocus_eval.training.samples import Samples, locate, measure
from dualfocus_eval.training.tuning import Source
from measurements.random_models import build
from tests.postscript import POSTSCRIPT, ghostscript_log
from tests.training.samples import write_data

SOURCE = Source("train.json", "images")


@pytest.fixture(scope="module")
def processor() -> Any:
    return training_processor(build("llava")[1], FAMILIES["llava"], "x")


def test_an_image_that_is_put_back_counts_again(processor: Any, tmp_path: Path) -> None:
    rows = write_data(tmp_path)
    rows[2]["conversations"] = []
    (tmp_path / "train.json").write_text(json.dumps(rows))
    image = tmp_path / "images" / "1.png"
    content = image.read_bytes()

    def left_out() -> list[str]:
        found: Samples = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
        assert len(found) + len(found.faults) == len(rows)
        return [fault.reason for fault in found.faults]

    image.unlink()
    assert len([reason for reason in left_out() if "1.png is missing" in reason]) == 7
    image.write_bytes(b"no image")
    assert len([reason for reason in left_out() if "1.png" in reason]) == 7
    image.write_bytes(content)
    assert len(left_out()) == 1


@pytest.mark.parametrize("what", ["postscript", "pipe", "device"])
def test_an_image_that_is_none_costs_its_samples(
    what: str, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ghostscript_log(tmp_path, monkeypatch)
    rows = write_data(tmp_path)
    image = tmp_path / "images" / "1.png"
    image.unlink()
    if what == "postscript":
        image.write_bytes(POSTSCRIPT)
    elif what == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to("/dev/zero")
    found = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
    assert len(found.faults) == 7
    assert len(found) == len(rows) - 7
    assert all("1.png is no readable image" in fault.reason for fault in found.faults)
    assert isinstance(prepare_picture(image), Failure)  # as batches opens it
    assert measure(SOURCE, tmp_path, processor, tmp_path / "kept").faults == found.faults
    assert not log.exists()


def test_what_is_still_missing_is_not_measured_again(
    processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    first = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
    monkeypatch.setattr("dualfocus_eval.training.samples.read_records", None)
    again = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
    assert again.faults == first.faults
    assert again.table == first.table


@pytest.mark.parametrize("name", ["pipe", "device", "folder"])
def test_only_a_file_is_a_data_file(tmp_path: Path, name: str) -> None:
    """A pipe would be waited for, a device may never end."""
    write_data(tmp_path)
    (tmp_path / "train.json").unlink()
    if name == "pipe":
        os.mkfifo(tmp_path / "train.json")
    elif name == "device":
        (tmp_path / "train.json").symlink_to("/dev/zero")
    else:
        (tmp_path / "train.json").mkdir()
    with pytest.raises(UserError, match=r"data file .*train.json cannot be read: it is not a regular file"):
        locate(SOURCE, tmp_path)


def test_images_that_are_none_cost_their_rows_alone(processor: Any, tmp_path: Path) -> None:
    rows = write_data(tmp_path)
    os.mkfifo(tmp_path / "images" / "pipe.png")
    (tmp_path / "images" / "zero.png").symlink_to("/dev/zero")
    bad = ["pipe.png", "zero.png", ".", "a\nb.png", "\udcff.png", "\0.png", "a" * 300, "\x1b[31m.png"]
    rows += [{**rows[1], "image": name} for name in bad]
    rows.append({"conversations": [{"from": "human", "value": "\ud800"}, {"from": "gpt", "value": "yes"}]})
    (tmp_path / "train.json").write_text(json.dumps(rows))
    found = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
    assert len(found.faults) == len(bad) + 1
    assert all(fault.reason.isprintable() for fault in found.faults)
    assert len(measure(SOURCE, tmp_path, processor, tmp_path / "kept")) == len(found)


@pytest.mark.parametrize("ending", ["arrow", "faults.json"])
def test_measures_that_were_cut_are_taken_again(processor: Any, tmp_path: Path, ending: str) -> None:
    write_data(tmp_path)
    whole = measure(SOURCE, tmp_path, processor, tmp_path / "kept")
    (path,) = (tmp_path / "kept").glob(f"*.{ending}")
    content = path.read_bytes()
    for length in (0, len(content) // 2, len(content) - 1):
        path.unlink()  # the table in memory stays
        path.write_bytes(content[:length])
        assert measure(SOURCE, tmp_path, processor, tmp_path / "kept").table == whole.table
