"""Tables on the terminal and in pages."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.tables import (
    Number,
    Table,
    fill_page,
    print_table,
    to_csv,
    to_json,
    to_markdown,
)

TABLE = Table("Title", ("what", "n"), ((("a", "1"), ("b", "2")), (("c", "3"),)), ("A note.",))


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "| what | n |", "| --- | ---: |", "| a | 1 |", "| b | 2 |", "|  |  |", "| c | 3 |", "", "A note.",
    ]  # fmt: skip


def test_the_terminal_shows_every_cell() -> None:
    shown = io.StringIO()
    print_table(TABLE, Console(file=shown, width=80))
    assert all(text in shown.getvalue() for text in ("Title", "what", "a", "1", "c", "3", "A note."))


def test_only_the_marked_places_of_a_page_change(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end of one -->\nbetween\n<!-- other -->\nkept\n")
    fill_page(page, {"one": "new \\1", "two": "unused"})
    expected = "before\n<!-- one -->\nnew \\1\n<!-- end of one -->\nbetween\n<!-- other -->\nkept\n"
    assert page.read_text() == expected
    fill_page(page, {"one": "new \\1"})
    assert page.read_text() == expected


def test_a_page_without_a_place_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(UserError, match="<!-- one --><!-- end of one -->"):
        fill_page(page, {"one": "new"})
    with pytest.raises(UserError, match="cannot be read"):
        fill_page(tmp_path / "missing.md", {"one": "new"})


MEASURED = Table(
    "Measured",
    ("what", "rate", "n"),
    ((("a", Number(12.345, 10.0, 15.0, "%"), 1_234), ("b", Number(math.nan), None)),),
)


def test_numbers_are_shown_with_their_interval() -> None:
    assert str(Number(12.345, 10.0, 15.0, "%")) == "12.3 (10.0 to 15.0)"
    assert str(Number(-0.04, unit="points", signed=True)) == "+0.0"
    assert str(Number(1234.5, decimals=0)) == "1,234"
    assert str(Number(math.nan, 1, 2)) == ""


def test_csv_and_json_hold_numbers() -> None:
    assert to_csv(MEASURED).splitlines() == ["what,rate,rate low,rate high,n", "a,12.345,10.0,15.0,1234", "b,,,,"]
    content = json.loads(to_json(MEASURED))
    assert content["rows"][0] == {
        "what": "a",
        "rate": {"value": 12.345, "unit": "%", "low": 10.0, "high": 15.0},
        "n": 1234,
    }
    assert content["rows"][1]["rate"] == {"value": None, "unit": ""}


def shown_on(width: int, *, terminal: bool, table: Table = MEASURED) -> str:
    shown = io.StringIO()
    print_table(table, Console(file=shown, width=width, force_terminal=terminal, color_system=None))
    return shown.getvalue()


def test_a_narrow_terminal_leaves_intervals_out() -> None:
    for width, shown_low in ((60, True), (20, False)):
        assert ("10.0 to" in shown_on(width, terminal=True)) == shown_low
        assert "12.3" in shown_on(width, terminal=True)


def test_no_digit_is_cut_however_narrow_the_terminal() -> None:
    row = ("task_with_a_long_name", "some words to break", *(Number(8_123.45 + i, decimals=2) for i in range(5)))
    table = Table("Wide", ("task", "text", *(f"column number {i}" for i in range(5))), ((row,),))
    for width in (10, 30, 60, 80):
        shown = shown_on(width, terminal=True, table=table)
        assert all(f"8,12{3 + i}.45" in shown for i in range(5))
        assert "task_with_a_long_name" in shown
        assert "…" not in shown


def test_without_a_terminal_a_table_is_as_wide_as_it_is() -> None:
    lines = shown_on(10, terminal=False).splitlines()
    assert any(line.split() == ["a", "12.3", "(10.0", "to", "15.0)", "1,234"] for line in lines)
    assert ["what", "rate", "n"] in [line.split() for line in lines]


def test_an_infinite_number_is_null_in_json() -> None:
    row = ("a", Number(math.inf), Number(1.0, -math.inf, math.inf))
    content = json.loads(to_json(Table("t", ("x", "y", "z"), ((row,),))))
    assert content["rows"][0]["y"] == {"value": None, "unit": ""}
    assert content["rows"][0]["z"] == {"value": 1.0, "low": None, "high": None, "unit": ""}


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", ":smile: :x:"])
def test_markup_in_a_table_is_text(text: str) -> None:
    shown = io.StringIO()
    print_table(Table(text, (text, text), ((("a", text),),), (text,)), Console(file=shown, width=60))
    assert shown.getvalue().count(text) == 5
