"""Reading samples in LLaVA's format: what is taken, what is named as bad, and that bad entries cost nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.curation.filtering import Kept
from dualfocus_eval.curation.samples import sample_of
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.training.records import Record, Turn, read_record, read_records
from tests.training.samples import BOX, Q1, Q2, conversation, plain, record, text_only, two_rounds


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<image>\nWhat is it?", (None, "What is it?")),
        ("What is it?\n<image>", ("What is it?", None)),
        ("Is <image> this?\n", ("Is ", None, " this?")),
        ("<image>\n<image>\nWhich?", (None, None, "Which?")),
        ("Here: <image>, there: <image>", ("Here: ", None, ", there:", None)),
        ("<image>\n", (None, "")),
    ],
)
def test_images_stand_where_the_sample_has_them(text: str, parts: tuple[str | None, ...]) -> None:
    found = record({"image": ["a.jpg"] * text.count("<image>"), "conversations": conversation(text, "a cup")})
    assert found.turns == (Turn("user", parts), Turn("assistant", ("a cup",)))
    expected = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    assert found.messages[0]["content"] == expected


def test_only_the_answer_to_q1_is_grounding() -> None:
    assert record(two_rounds()).grounding == (True, False)
    assert record(plain()).grounding == (False,)
    asked = "Please provide the bounding box coordinate of the region this sentence describes: a cup."
    assert record({"conversations": conversation(asked, BOX)}).grounding == (False,)


def test_what_curation_writes_is_read() -> None:
    kept = Kept(7, "is there a red cup?", "yes", Box(0.25, 0.5, 0.75, 1.0), Crop(1, 2, 3, 4), "objects")
    entry = json.loads(sample_of(kept, 5, "VG_100K/5.jpg", (40, 30), "released").line)
    found = record(entry)
    assert (found.images, found.sub_image) == (("VG_100K/5.jpg",), "crops/0/5_1_2_3_4.jpg")
    assert found.grounding == (True, False)
    assert [turn.text for turn in found.turns] == [Q1, BOX, Q2, "yes"]


def test_what_has_no_answer_is_left_out_at_both_ends() -> None:
    turns = [{"from": "gpt", "value": "Hello"}, *conversation("one?", "yes", "two?")]
    assert [turn.text for turn in record({"conversations": turns}).turns] == ["one?", "yes"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "conversations is null, not a list"),
        ({"conversations": "a"}, "conversations is text, not a list"),
        ({"conversations": [["human", "a"]]}, "turn 1 has no from and value"),
        ({"conversations": [None]}, "turn 1 has no from and value"),
        ({"conversations": []}, "no answer to learn"),
        ({"conversations": [{"from": "human"}]}, "turn 1 has no from and value"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "turn 1 is from 'tool', not human or gpt"),
        ({"conversations": conversation("a", "b")[::-1]}, "no answer to learn"),
        ({"conversations": [*conversation("a", "b"), *conversation("c", "d")[1:]]}, "do not take turns"),
        ({"conversations": conversation("a", " ")}, "an answer is empty"),
        ({"image": "a", "conversations": conversation("a", "<image>")}, "an answer has <image>"),
        ({"conversations": conversation("<image> a", "b")}, "1 times <image> in the questions, but 0 images"),
        ({"image": ["a", "b"], "conversations": conversation("<image> a", "b")}, "but 2 images"),
        ({"image": [7], "conversations": conversation("<image> a", "b")}, "image 7 is not a file name"),
        ({"image": False, "conversations": conversation("a", "b")}, "image False is not a file name"),
        ({"image": 0, "conversations": conversation("a", "b")}, "image 0 is not a file name"),
        ({"image": {}, "conversations": conversation("a", "b")}, "image {} is not a file name"),
        ({"image": [None], "conversations": conversation("<image> a", "b")}, "image None is not a file name"),
        ({"sub_image": True, "conversations": conversation("<image> a", "b")}, "image True is not a file name"),
        ({"conversations": [{"from": None, "value": "a"}]}, "turn 1 is from None, not human or gpt"),
        ({"conversations": [{"from": ["human"], "value": "a"}]}, "turn 1 is from ['human'], not human or gpt"),
        ({"conversations": conversation("a\ud83d", "b")}, "the value of turn 1 has half a character"),
        ({"image": "a", "conversations": conversation("a", "b", "<image>")}, "shows an image and has no answer"),
    ],
)
def test_a_bad_entry_is_named(entry: dict[str, Any], reason: str) -> None:
    found = read_record("file, entry 3", entry)
    assert isinstance(found, Rejected)
    assert found.where == "file, entry 3"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "true or false"),
        (7, "a number"),
        (0.5, "a number"),
        (["a"], "a list"),
        ({"text": "a"}, "an object"),
    ],
)
@pytest.mark.parametrize("turn", [1, 2])
def test_what_is_no_text_becomes_no_prompt_and_no_answer(value: Any, kind: str, turn: int) -> None:
    turns: list[Any] = conversation("a", "b")
    turns[turn - 1]["value"] = value
    found = read_record("x", {"conversations": turns})
    assert found == Rejected("x", f"the value of turn {turn} is {kind}, not text")


ENTRIES: list[Any] = [two_rounds(), plain(), "no object", {"conversations": 1}, text_only()]


def places(path: Path) -> tuple[list[str], list[str]]:
    found = list(read_records(path))
    return (
        [row.place for row in found if isinstance(row, Record)],
        [row.where for row in found if isinstance(row, Rejected)],
    )


def test_all_three_kinds_of_files_give_the_same(tmp_path: Path) -> None:
    array, lines, table = (tmp_path / name for name in ("a.json", "b.jsonl", "c.parquet"))
    array.write_text(json.dumps(ENTRIES))
    lines.write_text("\n".join(map(json.dumps, ENTRIES)) + "\nnot json\n")
    good = [two_rounds(), plain(), text_only()]
    pa.parquet.write_table(pa.Table.from_pylist([{"image": None, "sub_image": None} | row for row in good]), table)
    assert places(array) == ([f"a.json, entry {n}" for n in (1, 2, 5)], ["a.json, entry 3", "a.json, entry 4"])
    assert places(lines) == ([f"b.jsonl:{n}" for n in (1, 2, 5)], ["b.jsonl:3", "b.jsonl:4", "b.jsonl:6"])
    assert places(table) == ([f"c.parquet, row {n}" for n in (1, 2, 3)], [])
    turns = [[row.turns for row in read_records(path) if isinstance(row, Record)] for path in (array, lines, table)]
    assert turns[0] == turns[1] == turns[2]


def test_a_file_that_breaks_off_gives_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(json.dumps([plain(), plain()])[:-30])
    assert places(path) == (["cut.json, entry 1"], ["cut.json, after entry 1"])


def test_text_after_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    path.write_text(json.dumps([plain(), plain()]) + "\n" + json.dumps([plain()]) + "\n")
    assert places(path) == (["two.json, entry 1", "two.json, entry 2"], ["two.json, after entry 2"])
    path.write_text(json.dumps([plain(), plain()]) + " \n\n")
    assert places(path) == (["two.json, entry 1", "two.json, entry 2"], [])


@pytest.mark.parametrize("content", ["", "[]", "[nothing"])
def test_a_file_without_samples_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json"):
        list(read_records(tmp_path / "x.json"))
