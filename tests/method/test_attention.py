"""Grounding by attention: from two maps of attention to a region of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.attention import AttendingEngine, AttentionRequest, ImageAttention
from dualfocus_eval.engines.base import Conversation, Failure, Message
from dualfocus_eval.families.grids import ImageGrid
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.attention import SCALES, best_window, relative_attention
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.prompts import GENERAL_PROMPT
from dualfocus_eval.method.settings import Settings, settings_key
from tests.method.test_pipeline import OUT_OF_MEMORY, ask, rule, stages
from tests.scripted_engine import ScriptedEngine, prompt_of

SETTINGS = Settings(grounding="attention", strategy="micro", margin=0)
GRID = ImageGrid(10, 20, seen=(50, 50))
"""Of an image of 200 x 100 pixels: cells of 10 x 10, and windows of 5 to 10 cells a side."""
EMPTY = 0.001


def spot(row: int, column: int, side: int = 1, grid: ImageGrid = GRID) -> Any:
    weights = np.full((grid.rows, grid.columns), EMPTY, dtype=np.float32)
    weights[row : row + side, column : column + side] = 1.0
    return weights


def corners(box: Box | None) -> tuple[float, ...]:
    assert box is not None
    return tuple(round(corner, 9) for corner in (box.x1, box.y1, box.x2, box.y2))


@dataclass
class AttendingScript(ScriptedEngine):
    """A scripted engine whose attention is ``asked``, or ``general`` under the general instruction."""

    asked: Any = field(default_factory=lambda: spot(2, 13, 5))
    general: Any = field(default_factory=lambda: np.full((10, 20), EMPTY, dtype=np.float32))
    attended: list[tuple[list[Conversation], int | None]] = field(default_factory=list)

    def attention_problem(self, layer: int | None) -> str | None:
        return None

    def attend(self, requests: Sequence[AttentionRequest], layer: int | None = None) -> list[ImageAttention | Failure]:
        self.attended.append(([request.conversation for request in requests], layer))
        maps = [self.general if prompt_of(one.conversation) == GENERAL_PROMPT else self.asked for one in requests]
        return [one if isinstance(one, Failure) else ImageAttention(one, GRID) for one in maps]


def test_the_region_is_where_the_question_makes_the_model_look() -> None:
    engine = AttendingScript(rule())
    (trace,) = answer([ask()], engine, SETTINGS)
    assert stages(engine) == [["micro"]]
    assert trace.grounding is not None
    assert trace.grounding.method == "attention"
    assert trace.grounding.response is not None
    assert trace.grounding.response.text == "[0.65, 0.20, 0.90, 0.70]"  # as the model is said to have named it
    assert corners(trace.grounding.box) == (0.65, 0.2, 0.9, 0.7)


def test_what_it_looks_at_anyway_counts_less() -> None:
    both = np.maximum(spot(0, 0, 5), spot(4, 14, 5) / 2)
    (trace,) = answer([ask()], AttendingScript(rule(), asked=both, general=spot(0, 0, 5) + EMPTY), SETTINGS)
    assert trace.grounding is not None
    assert corners(trace.grounding.box) == (0.7, 0.4, 0.95, 0.9)


def test_what_is_read_of_the_model() -> None:
    """The macro prompts, and the general instruction once for each image; all in one call, of the layer that is set."""
    engine = AttendingScript(rule())
    settings = Settings(grounding="attention", attention_layer=2, selection="own_context")
    questions = [ask(0, system="Be polite."), ask(1, system="Be polite.")]
    answer(questions, engine, settings)
    ((conversations, layer),) = engine.attended
    assert layer == 2
    system, (image,) = Message("system", ("Be polite.",)), questions[0].images
    assert conversations == [
        *(request.conversation for request in engine.generated[0]),
        (system, Message("user", (image, GENERAL_PROMPT))),
    ]


@pytest.mark.parametrize("part", ["asked", "general"])
def test_attention_that_cannot_be_read_costs_the_region_only(part: str) -> None:
    engine = AttendingScript(rule(), **{part: OUT_OF_MEMORY})
    (trace,) = answer([ask()], engine, Settings(grounding="attention"))
    assert (trace.text, trace.fallback, trace.cause) == ("blue", "grounding_failed", OUT_OF_MEMORY)


def test_an_engine_without_attention_gives_no_region() -> None:
    (trace,) = answer([ask()], ScriptedEngine(rule()), Settings(grounding="attention"))
    assert (trace.text, trace.fallback) == ("blue", "grounding_failed")
    assert trace.cause is not None
    assert "with engine=in_process only, and for these model types: gemma3, " in trace.cause.message
    assert isinstance(AttendingScript(rule()), AttendingEngine)


def test_a_window_takes_the_size_of_what_stands_out() -> None:
    small, large = best_window(spot(2, 3, 5), GRID, (200, 100)), best_window(spot(1, 3, 8), GRID, (200, 100))
    assert corners(small) == (0.15, 0.2, 0.4, 0.7)
    assert corners(large) == (0.15, 0.1, 0.55, 0.9)


def test_the_base_size_is_what_the_model_sees_but_smaller_than_the_image() -> None:
    """By the image's size the window around one cell, in pixels of the image: a square of 1 to 2 base sizes."""
    for image_size, base in (((2000, 1000), 336), ((640, 480), 336), ((300, 300), 150), ((336, 800), 168)):
        grid = ImageGrid(24, 24, seen=(336, 336))
        box = best_window(spot(12, 12, grid=grid), grid, image_size)
        width, height = (box.x2 - box.x1) * image_size[0], (box.y2 - box.y1) * image_size[1]
        assert base - image_size[0] / 24 <= width <= max(SCALES) * base + image_size[0] / 24
        assert base - image_size[1] / 24 <= height <= max(SCALES) * base + image_size[1] / 24


def test_an_image_seen_at_its_own_size_but_for_rounding_is_zoomed_into() -> None:
    """Qwen-VL's processors round an image to whole cells of 28 pixels."""
    grid = ImageGrid(17, 23, seen=(644, 476))
    box = best_window(spot(8, 11, grid=grid), grid, (640, 480))
    assert 240 - 28 <= min(box.width * 640, box.height * 480) <= max(box.width * 640, box.height * 480) <= 300


def test_padding_weighs_nothing_and_is_no_part_of_a_region() -> None:
    """An image of 200 x 100 pixels in a square of 200: the upper and lower five of twenty rows show nothing of it."""
    padded = ImageGrid(20, 20, seen=(50, 50), covers=Box(0, -0.5, 1, 1.5))
    weights = spot(5, 10, 5, grid=padded)
    weights[1:4, 1:4] = 1000
    flat = ImageAttention(np.ones((20, 20), dtype=np.float32), padded)
    importance = relative_attention(ImageAttention(weights, padded), flat)
    assert importance[:5].sum() == importance[15:].sum() == 0
    assert corners(best_window(importance, padded, (200, 100))) == (0.5, 0.0, 0.75, 0.5)


def test_what_the_processor_cuts_off_is_no_part_of_a_region() -> None:
    """Of an image of 200 x 100 pixels the middle square is seen."""
    middle = ImageGrid(10, 10, seen=(50, 50), covers=Box(0.25, 0, 0.75, 1))
    assert corners(best_window(spot(0, 0, 5, grid=middle), middle, (200, 100))) == (0.25, 0.0, 0.5, 0.5)


@given(
    st.integers(1, 12), st.integers(1, 12), st.tuples(st.integers(2, 3000), st.integers(2, 3000)), st.integers(0, 2**32)
)
def test_every_map_has_a_region(rows: int, columns: int, image_size: tuple[int, int], seed: int) -> None:
    grid = ImageGrid(rows, columns, seen=(336, 336))
    weights = np.random.default_rng(seed).random((rows, columns)).astype(np.float32) ** 20
    found = ImageAttention(weights, grid)
    box = best_window(relative_attention(found, ImageAttention(np.zeros_like(weights), grid)), grid, image_size)
    assert 0 <= box.x1 < box.x2 <= 1
    assert 0 <= box.y1 < box.y2 <= 1


def test_the_layer_is_in_the_key_of_answers_by_attention_alone() -> None:
    def key(**changes: Any) -> str:
        return settings_key(Settings(**changes), {})

    assert key(attention_layer=3) == key()
    assert len({key(grounding="attention", attention_layer=layer) for layer in (None, 2, 3)} | {key()}) == 4


def test_negative_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="attention_layer"):
        Settings(attention_layer=-1)


def test_it_names_no_region_in_words() -> None:
    assert not GROUNDING["attention"].responds
    with pytest.raises(ValueError, match="selection='released' needs the model's own words"):
        Settings(grounding="attention", selection="released")
