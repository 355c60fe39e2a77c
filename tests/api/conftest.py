"""The embedded checkpoint, loaded once, and scenes to ask it about."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

import dualfocus_eval as df
from dualfocus_eval.cli.ask import EXAMPLE
from dualfocus_eval.common.resources import resource_folder


@pytest.fixture(scope="session")
def scenes() -> list[dict[str, Any]]:
    """The first scenes' questions, six about each image."""
    rows: list[dict[str, Any]] = (
        parquet.read_table(resource_folder("tasks") / "scenes" / "data" / "mini.parquet").slice(0, 12).to_pylist()
    )
    assert rows[0]["question_id"] == EXAMPLE
    return rows


@pytest.fixture(scope="session")
def model() -> df.Model:
    return df.load(batch_size=4)


@pytest.fixture(scope="session")
def example(model: df.Model, scenes: list[dict[str, Any]]) -> df.Answer:
    return model.ask(scenes[0]["image"]["bytes"], scenes[0]["question"])


@pytest.fixture
def photo(tmp_path: Path, scenes: list[dict[str, Any]]) -> Path:
    """The first scene as a PNG file, so that its pixels stay as they are."""
    path = tmp_path / "photo.png"
    Image.open(io.BytesIO(scenes[0]["image"]["bytes"])).save(path)
    return path
