import json
import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.common.geometry import Box, union
from dualfocus_eval.families import box_conventions
from dualfocus_eval.method.boxes import (
    BoxOutcome,
    format_box,
    from_padded_square,
    parse_box,
    to_padded_square,
)

SIZE = (640, 480)
ENCODED = (560, 420)
fractions = st.floats(0, 1)
sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))
conventions = st.sampled_from(sorted(box_conventions()))
frames = st.sampled_from(["image", "padded_square"])


@st.composite
def boxes(draw: st.DrawFn, smallest: float = 0.0) -> Box:
    x1, x2 = sorted((draw(fractions), draw(fractions)))
    y1, y2 = sorted((draw(fractions), draw(fractions)))
    return Box(x1, y1, min(1.0, x2 + smallest), min(1.0, y2 + smallest))


def parse(text: str, convention: str = "unit"):
    return parse_box(text, convention, image_size=SIZE, encoded_size=ENCODED)


@pytest.mark.parametrize(
    "text",
    [
        "[0.10, 0.20, 0.50, 0.60]",
        "The region is [0.1,0.2,0.5,0.6].",
        "[0.10 0.20 0.50 0.60]",
        "0.10, 0.20, 0.50, 0.60",
        "It is at 0.10, 0.20, 0.50, 0.60.",
        "[0.10, 0.20, 0.50, 0.60",
        "0.10, 0.20, 0.50, 0.60]",
        "[[0.10, 0.20, 0.50, 0.60], [0.7, 0.7, 0.9, 0.9]]",
        "(0.10, 0.20), (0.50, 0.60)",
        "[(0.10, 0.20), (0.50, 0.60)]",
        "There are 2 dogs (1 brown): [.10, .20, .50, .60] and [0, 0, 1, 1]",
        "Option (1) [0.10, 0.20, 0.50, 0.60]",
        "Within [0.3, 0.4]: [0.10, 0.20, 0.50, 0.60]",
        "[\uff10\uff0e\uff11\uff0c \uff10\uff0e\uff12\uff0c \uff10\uff0e\uff15\uff0c \uff10\uff0e\uff16]",  # full width
        "\u3010 0.10\uff0c0.20\uff0c0.50\uff0c0.60 \u3011",  # Chinese brackets and commas
        "\u533a\u57df\u662f\uff080.10\u30010.20\u30010.50\u30010.60\uff09\u3002",
        "[1e-1, 2E-1, 5e-1, 6e-1]",
        "[+0.10; 0.20; 0.50; 0.60]",
    ],
)
def test_reads_a_box_through_prose_and_punctuation(text: str) -> None:
    assert parse(text) == parse("[0.1, 0.2, 0.5, 0.6]")
    assert parse(text).box == Box(0.1, 0.2, 0.5, 0.6)
    assert parse(text).outcome is BoxOutcome.OK


@pytest.mark.parametrize(
    ("convention", "text"),
    [
        ("qwen_vl", "<ref>points (1,2),(3,4)</ref><box>(100,200),(500,600)</box>"),
        ("qwen_vl", "<box>(100,200),(500,600)</box><box>(0,0),(9,9)</box>"),
        ("qwen_vl", "(100,200),(500,600)"),
        ("qwen2_vl", "(100,200),(500,600)"),
        ("qwen2_vl", "<|object_ref_start|>a (1,1),(2,2)<|object_ref_end|><|box_start|>(100,200),(500,600)<|box_end|>"),
        ("qwen2_vl", "\uff08100\uff0c200\uff09\uff0c\uff08500\uff0c600\uff09"),
        ("qwen2_vl", "[100, 200, 500, 600]"),
        ("qwen2_5_vl", '{"bbox_2d": [56, 84, 280, 252]}'),
        (
            "qwen2_5_vl",
            '```json\n[\n\t{"bbox_2d": [56, 84, 280, 252], "label": "dog"},\n\t{"bbox_2d": [1, 2, 3, 4]}\n]\n```',
        ),
        ("qwen2_5_vl", '{"label": "a (1, 2, 3, 4)", "bbox_2d": [56.0, 84.0, 280.0, 252.0'),
        ("qwen2_5_vl", "[56, 84, 280, 252]"),
    ],
)
def test_reads_each_convention(convention: str, text: str) -> None:
    box = parse(text, convention).box
    assert box is not None
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((0.1, 0.2, 0.5, 0.6))


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", BoxOutcome.UNPARSABLE),
        ("The dog is on the left.", BoxOutcome.UNPARSABLE),
        ("[0.1, 0.2, 0.5]", BoxOutcome.UNPARSABLE),
        ("[0.1, 0.2, 0.5, 0.6, 0.9]", BoxOutcome.UNPARSABLE),
        ("0.1, 0.2, 0.5, 0.6, 0.9", BoxOutcome.UNPARSABLE),
        ("[0.1, 0.2, 0.5, 0.6.7]", BoxOutcome.UNPARSABLE),
        ("[10%, 20%, 50%, 60%]", BoxOutcome.UNPARSABLE),
        ("[0.1, 0.2, 0.5, x]", BoxOutcome.UNPARSABLE),
        ("[nan, 0.2, 0.5, 0.6]", BoxOutcome.NOT_FINITE),
        ("[NaN, NaN, NaN, NaN]", BoxOutcome.NOT_FINITE),
        ("[0.1, 0.2, inf, 0.6]", BoxOutcome.NOT_FINITE),
        ("[0.1, 0.2, 1e999, 0.6]", BoxOutcome.NOT_FINITE),
        ("[0.5, 0.2, 0.1, 0.6]", BoxOutcome.INVERTED),
        ("[0.1, 0.6, 0.5, 0.2]", BoxOutcome.INVERTED),
        ("[0.1, 0.2, 0.1, 0.6]", BoxOutcome.DEGENERATE),
        ("[0.0, 0.0, 0.0, 0.0]", BoxOutcome.DEGENERATE),
        ("[64, 96, 320, 288]", BoxOutcome.OUT_OF_RANGE),
        ("[1.1, 0.2, 1.4, 0.6]", BoxOutcome.OUT_OF_RANGE),
        ("[-0.1, 0.2, 1.2, 0.6]", BoxOutcome.CLIPPED),
        ("[-0.0, 0.0, 1.0, 1.0]", BoxOutcome.OK),
    ],
)
def test_names_what_is_wrong(text: str, outcome: BoxOutcome) -> None:
    parsed = parse(text)
    assert parsed.outcome is outcome
    assert (parsed.box is not None) == (outcome in {BoxOutcome.OK, BoxOutcome.CLIPPED})


def test_clips_what_sticks_out() -> None:
    assert parse("[-0.1, 0.2, 1.2, 0.6]").box == Box(0.0, 0.2, 1.0, 0.6)


@pytest.mark.parametrize(
    ("convention", "text"),
    [
        ("unit", "[0.10, 0.20, 0.50, 0.60]"),
        ("qwen_vl", "<box>(100,200),(500,600)</box>"),
        ("qwen2_vl", "(100,200),(500,600)"),
        ("qwen2_5_vl", '{"bbox_2d": [56, 84, 280, 252]}'),
    ],
)
def test_writes_each_convention(convention: str, text: str) -> None:
    assert format_box(Box(0.1, 0.2, 0.5, 0.6), convention, image_size=SIZE, encoded_size=ENCODED) == text


def test_qwen2_5_boxes_are_json() -> None:
    text = format_box(Box(0, 0, 1, 1), "qwen2_5_vl", image_size=SIZE, encoded_size=ENCODED)
    assert json.loads(text) == {"bbox_2d": [0, 0, 560, 420]}


def test_refuses_an_unknown_convention_and_pixels_without_a_size() -> None:
    with pytest.raises(ValueError, match="unit, qwen_vl, qwen2_vl, qwen2_5_vl"):
        parse_box("", "pascal", image_size=SIZE)
    with pytest.raises(ValueError, match="encoded_size"):
        parse_box("[1, 2, 3, 4]", "qwen2_5_vl", image_size=SIZE)


def test_a_swapped_frame_moves_the_box() -> None:
    """A wide image is padded above and below: the same numbers mean another region."""
    text = "[0.10, 0.40, 0.50, 0.60]"
    image = parse_box(text, image_size=(200, 100), frame="image").box
    padded = parse_box(text, image_size=(200, 100), frame="padded_square").box
    assert image == Box(0.1, 0.4, 0.5, 0.6)
    assert padded is not None
    # Height 100 in a square of 200: 50 px of padding above.
    assert (padded.y1, padded.y2) == pytest.approx(((0.4 * 200 - 50) / 100, (0.6 * 200 - 50) / 100))
    assert (padded.x1, padded.x2) == (0.1, 0.5)


def test_a_tall_image_is_padded_left_and_right() -> None:
    padded = parse_box("[0.40, 0.10, 0.60, 0.50]", image_size=(100, 200), frame="padded_square").box
    assert padded is not None
    assert (padded.x1, padded.x2) == pytest.approx(((0.4 * 200 - 50) / 100, (0.6 * 200 - 50) / 100))
    assert (padded.y1, padded.y2) == (0.1, 0.5)


def test_a_box_in_the_padding_is_out_of_range() -> None:
    parsed = parse_box("[0.10, 0.00, 0.50, 0.20]", image_size=(200, 100), frame="padded_square")
    assert parsed.outcome is BoxOutcome.OUT_OF_RANGE


@given(box=boxes(), size=sizes)
def test_padded_square_round_trip(box: Box, size: tuple[int, int]) -> None:
    back = from_padded_square(to_padded_square(box, size), size)
    for ours, theirs in zip(vars(back).values(), vars(box).values(), strict=True):
        assert math.isclose(ours, theirs, abs_tol=1e-9 * max(size))


@given(box=boxes(0.02), size=sizes, convention=conventions, frame=frames, before=st.text())
def test_what_is_written_is_read_back(
    box: Box, size: tuple[int, int], convention: str, frame: str, before: str
) -> None:
    """Up to the convention's rounding, in either frame, behind text without brackets or digits."""
    encoded = (448, 336)
    prose = "".join(character for character in before if character.isalpha() or character.isspace())
    text = format_box(box, convention, image_size=size, encoded_size=encoded, frame=frame)
    parsed = parse_box(f"{prose} {text}.", convention, image_size=size, encoded_size=encoded, frame=frame)
    rules = box_conventions()[convention]
    step = 0.5 * 10**-rules.decimals
    scale_x, scale_y = (rules.scale, rules.scale) if rules.scale else encoded
    stretch_x = max(size) / size[0] if frame == "padded_square" else 1.0
    stretch_y = max(size) / size[1] if frame == "padded_square" else 1.0
    tolerance_x, tolerance_y = (1.01 * step * stretch_x / scale_x, 1.01 * step * stretch_y / scale_y)
    if parsed.box is None:
        # In a padded square the short side of an extreme image is thinner than the convention's step.
        thin_x = (box.x2 - box.x1) <= 2 * tolerance_x + rules.smallest * stretch_x / scale_x
        thin_y = (box.y2 - box.y1) <= 2 * tolerance_y + rules.smallest * stretch_y / scale_y
        assert thin_x or thin_y
        return
    assert abs(parsed.box.x1 - box.x1) <= tolerance_x
    assert abs(parsed.box.x2 - box.x2) <= tolerance_x
    assert abs(parsed.box.y1 - box.y1) <= tolerance_y
    assert abs(parsed.box.y2 - box.y2) <= tolerance_y


numbers = st.one_of(
    st.floats().map(str),
    st.integers(-2000, 2000).map(str),
    st.floats(-0.2, 1.2).map("{:.2f}".format),
    st.sampled_from(["nan", "inf", "-", "1e999", "\uff11", "\u0661", "\u00bd", "9" * 400]),
)
pieces = st.one_of(
    numbers,
    st.sampled_from(
        [
            *"[](){}<>,;:'\" \n\t\uff0c\u3001\uff08\uff09\u3010\u3011",
            "<box>",
            "</box>",
            "<|box_start|>",
            "<|begin_of_box|>",
            "bbox_2d",
            "box_2d",
            "```json",
        ]
    ),
    st.text(max_size=5),
)
model_texts = st.one_of(
    st.text(),
    st.lists(pieces, max_size=30).map("".join),
    st.lists(numbers, min_size=4, max_size=4).map(lambda four: f"[{', '.join(four)}]"),
)


@given(text=model_texts, convention=conventions, size=sizes, encoded=sizes, frame=frames)
def test_any_text_gives_a_box_within_the_image_or_a_named_outcome(
    text: str, convention: str, size: tuple[int, int], encoded: tuple[int, int], frame: str
) -> None:
    parsed = parse_box(text, convention, image_size=size, encoded_size=encoded, frame=frame)
    if parsed.box is None:
        assert parsed.outcome not in {BoxOutcome.OK, BoxOutcome.CLIPPED}
    else:
        assert parsed.outcome in {BoxOutcome.OK, BoxOutcome.CLIPPED}
        assert 0 <= parsed.box.x1 < parsed.box.x2 <= 1
        assert 0 <= parsed.box.y1 < parsed.box.y2 <= 1


def test_a_long_text_is_read_in_linear_time() -> None:
    """Quadratic matching would take minutes here."""
    for text in ("[" + "9" * 100_000, "[1" + " " * 20_000, "1," * 50_000, "[" * 100_000, "(1 2)" * 20_000):
        assert parse(text).outcome in {
            BoxOutcome.UNPARSABLE,
            BoxOutcome.OUT_OF_RANGE,
            BoxOutcome.DEGENERATE,
            BoxOutcome.INVERTED,
        }


@given(first=boxes(), second=boxes())
def test_the_union_holds_both(first: Box, second: Box) -> None:
    both = Box(*union([astuple(first), astuple(second)]))
    assert both.x1 <= min(first.x1, second.x1)
    assert both.y2 >= max(first.y2, second.y2)
    assert both.area >= max(first.area, second.area)
