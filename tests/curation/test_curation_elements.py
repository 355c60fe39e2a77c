"""The index of a big JSON list: the same elements as a parser finds, and the good ones of a damaged file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.curation import elements
from dualfocus_eval.curation.elements import ElementIndex, index_elements

texts = st.text(st.sampled_from('ab"\\{}[],: \néé猫\ud83d'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
records = st.lists(st.fixed_dictionaries({"image_id": st.integers(0, 9), "rest": values}), max_size=6)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "list.json"


def contents(index: ElementIndex) -> list[Any]:
    whole = index.path.read_bytes()
    found = (index.element(number) for number in range(len(index)))
    return [json.loads(whole[element.start : element.start + element.length]) for element in found]


@settings(max_examples=300)
@given(records=records, chunk=st.integers(1, 40), indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_elements_are_those_of_a_parser(
    records: list[Any], chunk: int, indent: int | None, ascii_only: bool, path: Path
) -> None:
    text = json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "CHUNK", chunk)
        index = index_elements(path)
    assert index.faults == ()
    assert index.images.tolist() == [record["image_id"] for record in records]
    if ascii_only:
        assert contents(index) == records


@settings(max_examples=300)
@given(records=records, data=st.data())
def test_a_file_that_breaks_off_keeps_what_was_whole(records: list[Any], data: st.DataObject, path: Path) -> None:
    text = json.dumps(records)
    cut = data.draw(st.integers(1, len(text) - 1))
    path.write_text(text[:cut])
    index = index_elements(path)
    found = contents(index)
    assert found == records[: len(found)]
    assert [fault.reason for fault in index.faults] == ["the file breaks off: what follows is lost"]
    ends = [int(start + length) for start, length in zip(index.starts, index.lengths, strict=True)]
    assert all(end <= cut for end in ends)


@settings(max_examples=300)
@given(content=st.binary(max_size=60))
def test_no_bytes_make_it_raise(content: bytes, path: Path) -> None:
    path.write_bytes(b"[" + content)
    index = index_elements(path)
    assert len(index) == len(index.images) == len(index.lengths)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": [1]}', b"nonsense", b"  ", b'"[1]"'])
def test_what_is_no_list_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "objects.json").write_bytes(content)
    with pytest.raises(UserError, match=r"objects.json is not a list of images"):
        index_elements(tmp_path / "objects.json")


@pytest.mark.parametrize(
    ("text", "images", "reasons"),
    [
        ('\ufeff [{"id": 3}, {"image_id": "4"}]\n', [3, 4], []),
        ("[]", [], []),
        ('[{"id": 3}, null, {"id": 4}]', [3, 4], ["something that is no JSON object stands between elements"]),
        ('[7, {"id": 4}]', [4], ["something that is no JSON object stands between elements"]),
        ('[{"id": 4}, "}{"]', [4], ["something that is no JSON object stands between elements"]),
        ('[{"id": 3}, [1], {"id": 4}]', [3, 4], ["is not a JSON object"]),
        ('[{"id": 3}] {"id": 4}', [3], ["something follows the end of the list"]),
        ('[{"qas": []}, {"id": 4}]', [-1, 4], ["has no image id"]),
        ('[{"id": -4}, {"id": true}, {"id": 1.5}, {"id": "x"}]', [-1] * 4, ["has no image id"] * 4),
        ('[{"id": 1, "objects": [oops]}, {"id": 2}]', [1, 2], []),
        (
            '[{"id": 0}, {"id": 1, "objects": [}]}, {"id": 2}]',
            [0],
            ["is not JSON", "something follows the end of the list"],
        ),
        ('[{"id": 1, oops}, {"id": 2}]', [2], ["is not JSON"]),
        ('[{"id": 1} {"id": 2}]', [1, 2], ["something that is no JSON object stands between elements"]),
    ],
)
def test_faults_are_named_and_the_rest_is_kept(
    text: str, images: list[int], reasons: list[str], tmp_path: Path
) -> None:
    (tmp_path / "objects.json").write_text(text, encoding="utf-8")
    index = index_elements(tmp_path / "objects.json")
    assert index.images.tolist() == images
    assert [fault.reason.split(":")[0] for fault in index.faults] == reasons
    assert all(fault.where.startswith("objects.json, byte ") for fault in index.faults)


def test_an_unclosed_string_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "CHUNK", 64)
    monkeypatch.setattr(elements, "LONGEST", 256)
    (tmp_path / "objects.json").write_text('[{"id": 1}, {"id": "2}' + 'x, {"a": 1}' * 100 + "]")
    index = index_elements(tmp_path / "objects.json")
    assert index.images.tolist() == [1]
    assert [fault.reason for fault in index.faults] == ["no end of this element is found: the rest of the file is lost"]


def test_an_image_that_comes_twice_has_both_elements(tmp_path: Path) -> None:
    (tmp_path / "objects.json").write_text('[{"id": 1}, {"id": 2}, {"id": 1, "more": 0}]')
    index = index_elements(tmp_path / "objects.json")
    assert [element.start for element in index.of_image(1)] == [1, 23]
    assert index.of_image(5) == ()
