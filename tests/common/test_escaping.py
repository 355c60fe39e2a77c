"""Text from files in every medium that shows it: hostile texts as data, and properties of all texts."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dualfocus_eval.common.escaping import (
    csv_cell,
    figure_text,
    github_message,
    json_text,
    markdown,
    one_line,
    visible,
    xml_text,
)
from dualfocus_eval.common.tables import Table, print_table, to_csv, to_json, to_markdown

UNSEEN = "\x00a\x07\x1b[31m\r\x9b\u202e\u2066\u200fb\ud800\u2028"
SEEN = r"\x00a\x07\x1b[31m\x0d\x9b\u202e\u2066\u200fb\ud800\u2028"
HOSTILE = (
    "\n::error::y", "::error title=x::y", " \t::add-mask::x", "##[error]x", "a\r\n##[set-env name=A]b",
    "\x1b[2J\x1b]0;t\x07", "<script>x</script>", "| a | b |", "[x](javascript:y)", "![x](http://y)", "https://y.z",
    "www.y.z", "~~~", "```", "# x", "> x", "- x", "* x", "+ x", "---", "1. x", "1) x", "$x_1$", "=1+1", "+1+cmd",
    "-2+3", "@SUM(1)", "\t=1", "\uff1d1+1", "]]>", "\ufffe", "\ud800", UNSEEN,
)  # fmt: skip
texts = st.text(st.characters() | st.sampled_from(":#[]=+-@$|`~<>&\n\r\x1b\u2028\ud800\\*")) | st.sampled_from(HOSTILE)


def test_characters_that_act_and_are_not_seen_are_shown_by_their_codes() -> None:
    assert visible(UNSEEN) == SEEN
    assert visible("line\n\tnext: Ж 日本 😀 é") == "line\n\tnext: Ж 日本 😀 é"
    assert visible(SEEN) == SEEN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n::error::b", r"a\x0a::error::b"),
        ("::error::b", r"\x3a:error::b"),
        ("  ::error::b", r"  \x3a:error::b"),
        ("a ::error::b", r"a \x3a:error::b"),
        ("std::vector", "std::vector"),
        ("a##[error]b", r"a\x23#[error]b"),
        ("## b", "## b"),
    ],
)
def test_a_line_of_a_log_holds_no_command(text: str, shown: str) -> None:
    assert one_line(text) == shown


def is_command(line: str) -> bool:
    """As GitHub's runner reads a log."""
    return line.lstrip().startswith("::") or "##[" in line


@settings(max_examples=60)
@given(texts)
def test_one_line_is_one_line_without_commands_and_escape_codes(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode() == shown.encode().translate(None, bytes([*range(9), *range(10, 32), 127]))
    assert not is_command(shown)
    assert one_line(shown) == shown


@settings(max_examples=60)
@given(texts)
def test_a_workflow_command_is_one_line_and_holds_its_message(text: str) -> None:
    message = github_message(text)
    assert len(message.splitlines()) <= 1
    assert "%" not in message.replace("%25", "").replace("%0A", "")
    assert message.replace("%0A", "\n").replace("%25", "%") == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [12, 80])
def test_no_text_of_a_table_acts_on_a_terminal_or_in_a_log(text: str, width: int) -> None:
    shown = io.StringIO()
    table = Table(text, (text, "x"), (((text, "y"), ("", f"b {text}"), ("a", text)),), (text,))
    print_table(table, Console(file=shown, width=width, force_terminal=True, color_system=None))
    print_table(table, Console(file=shown, width=width))
    lines = shown.getvalue().splitlines()
    assert not any(map(is_command, lines))
    assert visible(shown.getvalue()) == shown.getvalue()


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("<b>|[x](y)`\nnext", "&lt;b&gt;\\|\\[x\\](y)\\` next"),
        ("\x1b[0m", r"\\x1b\[0m"),
        ("# x", r"\# x"),
        ("* x", r"\* x"),
        ("-8.3", "-8.3"),
        ("-", r"\-"),
        ("---", r"\---"),
        ("~~~ x", r"\~~~ x"),
        ("1. x", r"1\. x"),
        ("1.5", "1.5"),
        ("https://x.y", r"https\://x.y"),
        ("www.x.y", r"www\.x.y"),
        ("$x$", r"\$x\$"),
    ],
)
def test_markdown(text: str, cell: str) -> None:
    assert markdown(text) == cell


@settings(max_examples=60)
@given(texts)
def test_markdown_is_one_cell_and_one_plain_paragraph(text: str) -> None:
    shown = markdown(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`\[\]$]", shown)
    assert not re.search(r"[<>]|\w://|^(?:[#>]|~~~|[-+*] |---|\d+[.)] )", shown)
    assert not re.search(r"&(?!(?:amp|lt|gt);)", shown)


def test_headers_notes_and_cells_of_a_markdown_table_are_escaped() -> None:
    lines = to_markdown(Table("t", ("a|b", "<i>"), ((("x|y", "`"),),), ("# <b>\n\n~~~",))).splitlines()
    assert lines == [r"| a\|b | &lt;i&gt; |", "| --- | ---: |", r"| x\|y | \` |", "", r"\# &lt;b&gt; ~~~"]


@pytest.mark.parametrize("number", ["-5", "+3.25", "-1e-5", "-inf", "12"])
def test_a_number_stays_a_number_in_a_csv(number: str) -> None:
    assert csv_cell(number) == number


@settings(max_examples=60)
@given(texts)
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(Table("t", ("a", text), (((text, -5),),))), newline="")))
    for cell in (rows[0][1], rows[1][0]):
        assert cell in (visible(text), f"'{visible(text)}")
        assert not re.match(r"[=+@\t\n\uff1d\uff0b\uff0d\uff20-].", cell, re.DOTALL) or float(cell) == float(text)
    assert rows[1][1] == "-5"


@settings(max_examples=60)
@given(texts)
def test_every_text_fits_into_xml_json_and_a_figure(text: str) -> None:
    element = Xml.Element("a", b=xml_text(text))
    element.text = xml_text(text)
    Xml.fromstring(Xml.tostring(element))
    assert json.loads(json_text(text)) == text
    assert json.loads(to_json(Table(text, (text,), (((text,),),))).encode())["title"] == text
    assert visible(figure_text(text)) == figure_text(text)
    assert "\n" not in figure_text(text)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@settings(max_examples=60)
@given(texts)
def test_no_html_in_markdown_runs(text: str) -> None:
    assert Tags(markdown(text)).tags == []
