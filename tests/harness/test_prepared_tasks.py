"""Where the df tasks read from: the hub, or ``$DUALFOCUS_DATA`` when it is set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.prepared import FORMAT, MANIFEST
from dualfocus_eval.harness.task_index import prepared_config

CONFIG: dict[str, Any] = {
    "dataset_path": "lab/POPE",
    "dataset_name": "Full",
    "test_split": "random",
    "metadata": {"version": 1.0, "dualfocus": {"stem": "question", "prepared": "pope/random"}},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALFOCUS_DATA", raising=False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def prepared_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    return prepared_config("df_pope_random", CONFIG)


def test_a_prepared_set_takes_the_place_of_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pope").mkdir()
    (tmp_path / "pope" / "random.parquet").touch()
    with pytest.raises(UserError, match="no finished pope/random"):  # a preparation that was killed
        prepared_in(tmp_path, monkeypatch)
    (tmp_path / "pope" / MANIFEST).write_text(json.dumps({"format": FORMAT, "splits": {"random": {"rows": 2999}}}))
    said: list[str] = []
    monkeypatch.setattr("loguru.logger.warning", said.append)
    config = prepared_in(tmp_path, monkeypatch)
    assert ["2999 questions, published are 3000" in line for line in said] == [True]
    assert (config["dataset_path"], "dataset_name" in config) == ("parquet", False)
    assert config["dataset_kwargs"] == {"data_files": {"random": str(tmp_path / "pope" / "random.parquet")}}
    assert CONFIG["dataset_path"] == "lab/POPE"


def test_a_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    with pytest.raises(
        UserError, match=r"task t: .* no finished pope/random\. Make it with: dualfocus data prepare pope "
    ):
        prepared_config("t", CONFIG)


def test_a_set_out_of_reach_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"^task t: lab/POPE cannot be had from the hub .*, and DUALFOCUS_DATA is not"):
        prepared_config("t", CONFIG)
    with pytest.raises(UserError, match=r"^task t: its data are not on the hub, and DUALFOCUS_DATA is not set"):
        prepared_config("t", CONFIG | {"dataset_path": "parquet"})


def test_without_prepared_sets_the_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local folder of the dataset's name stands for the hub, as ``datasets`` has it."""
    (tmp_path / "lab" / "POPE").mkdir(parents=True)
    Dataset.from_dict({"question": ["Is it?"]}).to_parquet(tmp_path / "lab" / "POPE" / "random.parquet")
    monkeypatch.chdir(tmp_path)
    config = {key: value for key, value in CONFIG.items() if key != "dataset_name"}
    assert prepared_config("t", config) == config


@pytest.mark.parametrize("metadata", [None, [{"version": 0.0}], {"version": 1.0}, {"dualfocus": {"stem": "question"}}])
def test_other_tasks_are_left_alone(metadata: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    config = {"dataset_path": "lab/POPE", "metadata": metadata}
    assert prepared_config("t", config) == config
