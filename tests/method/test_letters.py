"""Letters in the forms that models write. The cases are data (letters.json), four options each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.method.letters import named_option, option_index

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "letters.json").read_text("utf-8"))
READ: list[tuple[str, int]] = [(text, index) for text, index in CASES["read"]]
UNREAD: list[str] = CASES["unread"]
TEXTS = ("a cup", "a ball", "a lamp", "a hat")


@pytest.mark.parametrize(("text", "index"), READ)
def test_a_letter_that_is_the_answer_is_read(text: str, index: int) -> None:
    assert option_index(text, 4) == named_option(text, TEXTS) == index


@pytest.mark.parametrize("text", UNREAD)
def test_nothing_else_is_read_as_a_letter(text: str) -> None:
    assert option_index(text, 4) is None
    assert named_option(text, TEXTS) is None


@given(st.text(), st.integers(0, 30))
def test_any_text_names_an_option_there_is_or_none(text: str, options: int) -> None:
    index = option_index(text, options)
    assert index is None or 0 <= index < options


@given(st.sampled_from(READ), st.sampled_from(["{}", " {}\n", "**{}**", "[{}]", "\\boxed{{{}}}"]))
def test_marks_around_an_answer_never_make_it_another(case: tuple[str, int], marks: str) -> None:
    text, index = case
    assert option_index(marks.format(text), 4) in (index, None)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("red", 0),
        ("Red.", 0),
        ("**Red**", 0),
        ("\u201cred\u201d", 0),
        ("\\boxed{\\text{red}}", 0),
        (" a RED ball", 1),
        ("B", 1),
        ("ball", None),
        ("two", None),
        ("", None),
        ("red ball", None),
        ("It is red", None),
    ],
)
def test_an_option_is_named_by_its_letter_or_by_its_text(text: str, index: int | None) -> None:
    assert named_option(text, ("red", "a red ball", "two", "Two")) == index


def test_an_option_that_begins_like_a_letter_is_meant_by_its_own_text() -> None:
    authors = ("C. S. Lewis", "A. Lincoln", "B. Shaw", "C++")
    assert [named_option(author, authors) for author in authors] == [0, 1, 2, 3]
    assert named_option("C", authors) == named_option("C. B. Shaw", authors) == 2
    letters = ("C", "(B)", "A", "D")
    assert [named_option(letter, letters) for letter in letters] == [2, 1, 0, 3]
