"""Official files of any size: JSON is read entry by entry, and says what it was expected to be."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets import sources
from dualfocus_eval.datasets.sources import json_items, json_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(
    st.lists(VALUES),
    st.integers(1, 40),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.dictionaries(st.text(), VALUES),
)
def test_entries_are_those_of_the_whole_file(
    entries: list[Any], chunk: int, indent: int | None, plain: bool, others: dict[str, Any]
) -> None:
    """However the file is cut into chunks, and whatever stands before the list."""
    others.pop("data", None)
    with tempfile.TemporaryDirectory() as folder, patch.object(sources, "CHUNK", chunk):
        path = Path(folder) / "file.json"
        path.write_text(json.dumps(entries, indent=indent, ensure_ascii=plain), encoding="utf-8", errors="replace")
        found = json.loads(path.read_text(encoding="utf-8"))
        assert [entry for _, entry in json_items(path)] == found
        path.write_text(json.dumps({**others, "data": found, "more": 1}, indent=indent), encoding="utf-8")
        assert [entry for _, entry in json_items(path, "data")] == found
        members = [[name, value] for name, value in json_members(path)]
        assert members == [[name, value] for name, value in json.loads(path.read_text()).items()]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected ["),
        ("{}", "expected ["),
        ("[1, 2", "expected ,, found its end"),
        ("[1 2]", "expected ,"),
        ('[1, {"a": ]', "Expecting value"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_another_form_is_one_clear_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"file\.json is not JSON of the release's form") as error:
        list(json_items(path))
    assert reason in str(error.value)
    assert len(str(error.value)) < 400


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "file.json"
    with path.open("w") as file:
        file.write("[" + ",".join([json.dumps({"text": "x" * 1000})] * 20_000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in json_items(path)) == 20_000
    assert tracemalloc.get_traced_memory()[1] < 8 * sources.CHUNK < path.stat().st_size
    tracemalloc.stop()
