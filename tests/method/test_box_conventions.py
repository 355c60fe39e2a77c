"""What models write: documented outputs of every family (boxes.json), and 100,000 texts that nobody would write."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.families import box_conventions
from dualfocus_eval.families.conventions import PUBLISHED
from dualfocus_eval.method.boxes import BoxOutcome, ParsedBox, format_box, parse_box

GOLDEN: dict[str, list[tuple[str, list[float] | str]]] = json.loads(
    Path(__file__).with_name("boxes.json").read_text(encoding="utf-8")
)
NAMES = [convention.name for convention in PUBLISHED]
SIZE = (640, 480)
ENCODED = (560, 420)


def parse(text: str, convention: str) -> ParsedBox:
    return parse_box(text, convention, image_size=SIZE, encoded_size=ENCODED)


@pytest.mark.parametrize(
    ("convention", "text", "expected"),
    [(convention, *case) for convention, cases in GOLDEN.items() for case in cases],
)
def test_documented_outputs(convention: str, text: str, expected: list[float] | str) -> None:
    parsed = parse(text, convention)
    if isinstance(expected, str):
        assert parsed == ParsedBox(None, BoxOutcome(expected))
    else:
        assert parsed.box is not None
        assert (parsed.box.x1, parsed.box.y1, parsed.box.x2, parsed.box.y2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("convention", "text"),
    [
        ("bbox_2d_1000", '{"bbox_2d": [100, 200, 500, 600]}'),
        ("internvl", "<box>[[100, 200, 500, 600]]</box>"),
        ("glm4v", "<|begin_of_box|>[[100,200,500,600]]<|end_of_box|>"),
        ("gemma4", '{"box_2d": [200, 100, 600, 500]}'),
    ],
)
def test_what_each_convention_writes(convention: str, text: str) -> None:
    assert format_box(Box(0.1, 0.2, 0.5, 0.6), convention, image_size=SIZE) == text


@pytest.mark.parametrize("text", ["[\u0131nf, 0.2, 0.5, 0.6]", "[0.1, 0.2, 0.5, \u0130nf\u0131nity]"])
def test_letters_that_only_look_like_a_number_are_none(text: str) -> None:
    """A dotless i is an i to a pattern that ignores case, but not to ``float``."""
    assert parse(text, "unit").outcome is BoxOutcome.UNPARSABLE


PIECES = (
    *"[](){}<>,;:.-+'\"\n\t\\ ",
    *("[[", "]]", "), (", "nan", "inf", "\u0131nf", "1e999", "1e-400", "-0", "9" * 400, "0." + "3" * 400),
    *("\uff11\u3001", "\u0661", "\u00bd", "\u00b2", "\u0301" * 40, "\uff0c", "\u3010", "\ud800", "\x00", "\u2028"),
    *("bbox_2d", "box_2d", '"bbox_2d": ', '"box_2d": [', "<box>", "</box>", "<ref>", "<|box_start|>"),
    *("<|begin_of_box|>", "<|end_of_box|>", "```json", "null", '"label": "2 cups", '),
)


def texts_of(convention: str, count: int) -> list[str]:
    """Documented outputs and well-formed boxes, mutated; pieces of boxes; random Unicode. The same for every run."""
    draw = random.Random(convention)
    known = [text for cases in GOLDEN.values() for text, _ in cases]
    return [_text(draw, convention, known) for _ in range(count)]


def _text(draw: random.Random, convention: str, known: list[str]) -> str:
    kind = draw.random()
    if kind < 0.1:
        return "".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(40)))
    if kind < 0.3:
        return "".join(draw.choice([*PIECES, _number(draw)]) for _ in range(draw.randrange(30)))
    text = draw.choice(known)
    if kind < 0.6:
        rules = box_conventions()[convention]
        corners = sorted(draw.uniform(-0.1, 1.1) for _ in range(4)) if kind < 0.5 else [0.1, 0.2, 0.3, 0.2]
        text = rules.template.format(*(f"{corner * (rules.scale or 400):.2f}" for corner in corners))
    for _ in range(draw.randrange(4)):
        text = _mutated(draw, text)
    return text


def _number(draw: random.Random) -> str:
    scale = draw.choice([1, 100, 1000, 3000])
    number = draw.uniform(-0.1, 1.1) * scale
    return draw.choice([f"{number:.0f}", f"{number:.2f}", f"{number!r}", f"{number:e}"])


def _mutated(draw: random.Random, text: str) -> str:
    start, end = sorted(draw.randrange(len(text) + 1) for _ in range(2))
    end = min(end, start + 8)
    middle = draw.choice(
        [
            "",
            text[start:end] * 2,
            draw.choice(PIECES),
            _number(draw),
            text[start:end].swapcase(),
            "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text[start:end]),
            draw.choice(string.printable),
        ]
    )
    return text[:start] if draw.random() < 0.1 else text[:start] + middle + text[end:]


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.prove)])
@pytest.mark.parametrize("convention", NAMES)
def test_no_text_raises(convention: str, count: int) -> None:
    seen = dict.fromkeys(BoxOutcome, 0)
    for text in texts_of(convention, count):
        parsed = parse(text, convention)
        seen[parsed.outcome] += 1
        assert (parsed.box is not None) == (parsed.outcome in {BoxOutcome.OK, BoxOutcome.CLIPPED}), text
        if parsed.box:
            assert 0 <= parsed.box.x1 < parsed.box.x2 <= 1, text
            assert 0 <= parsed.box.y1 < parsed.box.y2 <= 1, text
    reached = {outcome for outcome, times in seen.items() if times}
    two_orders = box_conventions()[convention].other_marker is not None
    assert reached == set(BoxOutcome) - (set() if two_orders else {BoxOutcome.OTHER_CONVENTION})


@pytest.mark.parametrize("convention", NAMES)
def test_a_box_is_read_in_any_surroundings(convention: str) -> None:
    """In a list, in a fence, behind prose that holds numbers, before another box."""
    written = format_box(Box(0.1, 0.2, 0.5, 0.6), convention, image_size=SIZE, encoded_size=ENCODED)
    for text in (f"[{written}]", f"```json\n[\n  {written}\n]\n```", f"The 2 dogs (1 brown): {written}.", written * 2):
        box = parse(text, convention).box
        assert box is not None, text
        assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((0.1, 0.2, 0.5, 0.6))
