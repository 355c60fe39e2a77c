"""Text of a megabyte that made quadratic rules take minutes to hours: read, compared and cut within the alarm."""

from __future__ import annotations

import signal
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dualfocus_eval.common.text import nfkc
from dualfocus_eval.method.boxes import BoxOutcome, parse_box
from dualfocus_eval.method.letters import named_option, option_index
from dualfocus_eval.method.question import AnswerKind
from dualfocus_eval.method.selection.deciding import normalised
from dualfocus_eval.method.stems import POST_PROMPTS, stem_of

SIZE = 1_000_000
SECONDS = 60
"""Of the process's own time, whatever else runs. No measure of speed: these texts take about a second in linear time,
and from minutes to hours in quadratic time."""


@contextmanager
def ends() -> Iterator[None]:
    def give_up(*_: Any) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def of(unit: str) -> str:
    return unit * (SIZE // len(unit))


BLANKS = of(" ")


@pytest.mark.parametrize(
    "text", [f"a{of('!')}b", of("!"), of("a. "), f"-{of('.')}5", f"e{of(chr(0x301) + chr(0x316))}", of("\u0f73")]
)
def test_comparing_answers(text: str) -> None:
    with ends():
        for kind in (AnswerKind.SHORT, AnswerKind.YES_NO):
            assert normalised(text, kind) == normalised(text, kind)


@pytest.mark.parametrize(
    "text",
    [f"B{BLANKS}x", f"B{of('!')}x", f"answer{BLANKS}x", of("*"), of("*a "), of("$a"), of("\\boxed{"), of("\\boxed{B "),
     of("\\boxed{B}"), of("<answer>"), of("B or "), of("A. B. "), of("The answer is B. "), of("\n- ")],
)  # fmt: skip
def test_reading_letters(text: str) -> None:
    with ends():
        assert option_index(text, 4) in (None, 1)
        assert named_option(text, (text, "red")) in (0, None)


@pytest.mark.parametrize(
    "text",
    [BLANKS, f"x{BLANKS}y", of("\n "), of(f"{POST_PROMPTS[0]}\n"), of("Answer directly. "), of("."), of("A. x\n"),
     of("A. x\nB. y\n\n"), of("? (A) x (B) y\n"), of("\nReference OCR token: a"), of("Question: a\n"),
     of("Context: a\n"), of("Options: "), f"Options:{BLANKS}x", f"? {BLANKS}(A)", of("<image>")],
)  # fmt: skip
def test_cutting_stems(text: str) -> None:
    with ends():
        assert len(stem_of(text, (*POST_PROMPTS, "x"), ("{} x", "Note: {}")).stem) <= len(text)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (f"[1,2]{BLANKS}x", BoxOutcome.UNPARSABLE),
        (f"[1{BLANKS}x", BoxOutcome.UNPARSABLE),
        (of("["), BoxOutcome.UNPARSABLE),
        (of("[1 "), BoxOutcome.UNPARSABLE),
        (of("1, "), BoxOutcome.UNPARSABLE),
        (of("1"), BoxOutcome.UNPARSABLE),
        (f"[0.1, 0.2,{BLANKS}0.3, 0.4]", BoxOutcome.OK),
        (f"[0.{of('1')}, 0.2, 0.3, 0.4]", BoxOutcome.OK),
        (f"[{of('1')}, 2, 3, 4]", BoxOutcome.NOT_FINITE),
    ],
)
def test_reading_boxes(text: str, outcome: BoxOutcome) -> None:
    with ends():
        assert parse_box(text, image_size=(640, 480)).outcome is outcome


@pytest.mark.parametrize("convention", ["internvl", "glm4v", "gemma4"])
@pytest.mark.parametrize(
    "text",
    [of("<|begin_of_box|>"), f"<|begin_of_box|>{of('[1 ')}", of("<|begin_of_box|>bbox_"), of("<box>[["), of("bbox_2"),
     f"box_2d{of(' box_2')}", f"<box>{of('9')}", of("bbox_2d: [1, 2, 3"), f"bbox_2d{BLANKS}box_2d"],
)  # fmt: skip
def test_looking_for_the_marker_of_a_box(text: str, convention: str) -> None:
    with ends():
        assert parse_box(text, convention, image_size=(640, 480), encoded_size=(640, 480)).box is None


@pytest.mark.parametrize(
    "text", ["cafe\u0301", "\uff22\uff09", "\ud55c\uae00", "\u1100\u1161\u11a8", "e\u0316\u0301" * 9]
)
def test_the_form_is_unicodes_for_all_that_languages_write(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)
