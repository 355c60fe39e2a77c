"""Phrases that a detector looks for, from questions as benchmarks ask them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.method.grounding.phrases import phrases_of


@pytest.mark.parametrize(
    ("stem", "phrases"),
    [
        ("What color is the small car?", ["small car"]),
        ("Is there a snowboard in the image?", ["snowboard"]),
        ("What is the woman holding?", ["woman"]),
        (
            "What color is the small car next to the woman holding an umbrella?",
            ["small car", "woman", "umbrella"],
        ),
        ("Is the red ball on the left or right side of the blue cube?", ["red ball", "blue cube"]),
        ("How many people are wearing hats?", ["people", "hats"]),
        ("What does the sign say?", ["sign"]),
        ("What is the color of the dog's collar?", ["dog collar"]),
        ("What is the color of the dog\u2019s collar?", ["dog collar"]),
        ("Which building is behind the traffic-light?", ["building", "traffic-light"]),
        ("What is written on the cafe\u0301 window, and what on the door?", ["cafe window", "door"]),
        ("Is the cup to the left of the cup?", ["cup"]),
        ("What number is on the jersey of player 12?", ["jersey", "player 12"]),
        ("What is in the picture?", []),
        ("What is happening here?", []),
        ("???", []),
        ("\u56fe\u4e2d\u6709\u4ec0\u4e48\uff1f", []),
    ],
)
def test_phrases(stem: str, phrases: list[str]) -> None:
    assert list(phrases_of(stem)) == phrases


@given(st.text())
def test_any_text_has_phrases_that_a_detector_takes(stem: str) -> None:
    found = phrases_of(stem)
    assert len(set(found)) == len(found)
    for phrase in found:
        assert phrase.isascii()
        assert phrase == phrase.strip().lower()
        assert phrase
        assert "." not in phrase  # GroundingDINO's separator
