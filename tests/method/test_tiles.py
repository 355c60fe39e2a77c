"""``grounding=tiles``: which tiles there are, what is asked of each, and what becomes the region."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Conversation, Failure, Message, Picture
from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.method.grounding.tiles import GRIDS, MIN_TILE_SIDE, grid
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.prompts import tile_prompt
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from tests.method.test_pipeline import ask, picture, rule, stages
from tests.scripted_engine import ScriptedEngine

SIDE = {"2x2": 4 / 7, "3x3": 0.4}


@pytest.mark.parametrize("name", GRIDS)
def test_the_tiles_of_a_grid(name: str) -> None:
    tiles, count = grid(name), GRIDS[name]
    assert len(tiles) == count**2
    for tile in tiles:
        assert (tile.x2 - tile.x1, tile.y2 - tile.y1) == pytest.approx((SIDE[name], SIDE[name]))
    first, second, below = tiles[0], tiles[1], tiles[count]
    assert (first.x1, first.y1) == (0, 0)
    assert first.x2 - second.x1 == pytest.approx(SIDE[name] / 4)
    assert first.y2 - below.y1 == pytest.approx(SIDE[name] / 4)
    assert (tiles[-1].x2, tiles[-1].y2) == pytest.approx((1, 1))


def crop_of(conversation: Conversation) -> Picture:
    (crop,) = (part for part in conversation[-1].content if isinstance(part, Picture))
    return crop


def halves() -> Picture:
    """Its four quarters are of four colours."""
    image = picture("black", (280, 140)).pixels
    for place, colour in zip([(0, 0), (140, 0), (0, 70), (140, 70)], ("red", "lime", "blue", "white"), strict=True):
        image.paste(picture(colour, (140, 70)).pixels, place)
    return Picture(image)


def grounded(settings: Settings, nll: Callable[[Conversation, str], float | Failure], **changes: object) -> Trace:
    engine = ScriptedEngine(rule(), nll=nll)
    question = ask(images=(halves(),), **changes)
    (trace,) = answer([question], engine, settings)
    return trace


def likes(*tiles: int) -> Callable[[Conversation, str], float]:
    """Yes is likelier the earlier a tile's number stands in ``tiles``."""
    image = halves().pixels
    width, height = image.size
    wanted = {}
    for rank, number in enumerate(tiles):
        box = grid("2x2")[number]
        size = (box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height)
        wanted[Picture(image.crop(tuple(map(round, size))))] = 0.9 - 0.1 * rank
    return lambda conversation, text: 1.0 - wanted.get(crop_of(conversation), 0.0) * (text == "Yes")


TWO = Settings(grounding="tiles", tiles="2x2", strategy="micro", margin=0)


@pytest.mark.parametrize("best", range(4))
def test_the_likeliest_tile_is_the_region(best: int) -> None:
    trace = grounded(TWO, likes(best))
    assert trace.grounding is not None
    assert trace.grounding.box == grid("2x2")[best]
    assert (trace.grounding.method, trace.grounding.outcome) == ("tiles", "ok")
    assert trace.selected == "micro"


def test_the_best_two_may_be_joined() -> None:
    trace = grounded(Settings(grounding="tiles", tiles="2x2", joined_tiles=2), likes(3, 1, 0))
    first, second = grid("2x2")[1], grid("2x2")[3]
    assert trace.grounding is not None
    assert trace.grounding.box == Box(first.x1, first.y1, second.x2, second.y2)


def test_all_tiles_of_a_batch_are_scored_in_one_call_beside_the_first_pass() -> None:
    engine = ScriptedEngine(rule())
    questions = [ask(number, images=(halves(),), system="Be polite.") for number in range(2)]
    answer(questions, engine, Settings(grounding="tiles", strategy="micro"))
    assert stages(engine) == [["micro", "micro"]]
    (scored,) = engine.scored
    assert len(scored) == 2 * 9 * 2
    yes, no = scored[-2:]
    assert yes.conversation == no.conversation
    assert (yes.continuation, no.continuation) == (engine.continuation((), "Yes"), engine.continuation((), "No"))
    system, turn = yes.conversation
    assert system == Message("system", ("Be polite.",))
    assert turn.content == (crop_of(yes.conversation), tile_prompt(ask(1)))
    assert crop_of(yes.conversation).pixels.size == (112, 56)
    assert tile_prompt(ask(1)).count("Colour 1?") == 1


def test_the_second_pass_continues_a_conversation_in_which_the_tile_was_named() -> None:
    engine = ScriptedEngine(rule(), nll=likes(2))
    (trace,) = answer([ask(images=(halves(),))], engine, TWO)
    ((request,),) = engine.generated
    _, said, _ = request.conversation
    (text,) = said.content
    named = parse_box(str(text), image_size=(280, 140)).box
    assert named is not None
    assert (named.x1, named.y2) == pytest.approx((0, 1))
    assert trace.picks == {}


def test_without_a_best_one_the_first_of_equal_tiles_is_taken() -> None:
    trace = grounded(TWO, lambda conversation, text: 1.0)
    assert trace.grounding is not None
    assert trace.grounding.box == grid("2x2")[0]


@pytest.mark.parametrize("size", [(200, 19), (19, 200), (3, 3), (1, 1)])
def test_a_grid_finer_than_the_image_is_named(size: tuple[int, int]) -> None:
    engine = ScriptedEngine(rule())
    (small, other) = answer(
        [ask(0, images=(picture(size=size),)), ask(1)], engine, Settings(grounding="tiles", score_all=False)
    )
    assert (small.fallback, small.selected, small.cause) == ("grid_finer_than_image", "macro", None)
    assert other.fallback is None
    assert min(size) * 0.4 < MIN_TILE_SIDE


@pytest.mark.parametrize("failure", [Failure("out_of_memory", "one row does not fit"), ValueError("no answer")])
def test_a_tile_that_cannot_be_scored_costs_its_question_alone(failure: Failure | Exception) -> None:
    sick = picture("red")
    pixels = {Picture(sick.pixels.crop((0, 0, 80, 40)))}

    def nll(conversation: Conversation, text: str) -> float | Failure | Exception:
        return failure if crop_of(conversation) in pixels and "Colour 0?" in str(conversation[-1].content) else 1.0

    first, second = answer([ask(0), ask(1)], ScriptedEngine(rule(), nll=nll), Settings(grounding="tiles"))
    assert (first.fallback, first.selected) == ("grounding_failed", "macro")
    assert first.cause is not None
    assert second.grounding is not None
    assert second.grounding.box is not None
