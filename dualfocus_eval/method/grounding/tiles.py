"""``tiles``: a grid of overlapping tiles, of which the model itself says how likely each helps to answer.

The model is asked of every tile whether it shows what the question needs. A tile's score is the log-odds of the answer
yes against no, both scored as given texts; the region is the best tile, or the best two together. ZoomEye (Shen et al.,
2024) goes by the same answers, and searches on within the tiles; this is one level of such a search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dualfocus_eval.common.geometry import Box, Crop, Size, union
from dualfocus_eval.engines.base import Conversation, Engine, Failure, GenerateRequest, Message, Score, ScoreRequest
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.calls import attempt, call
from dualfocus_eval.method.conversations import system_turn
from dualfocus_eval.method.crops import crop_picture
from dualfocus_eval.method.grounding.base import GroundingInput, GroundingSettings, NoRegion, Region
from dualfocus_eval.method.grounding.told import told_region
from dualfocus_eval.method.prompts import tile_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Fallback

__all__ = ["GRIDS", "MIN_TILE_SIDE", "TILES", "grid"]

GRIDS: Mapping[str, int] = {"2x2": 2, "3x3": 3}
"""Tiles along each side, by what a user writes."""
OVERLAP = 0.25
"""The share of a tile's side that it has in common with the next: what is no larger lies whole in one of them."""
MIN_TILE_SIDE = 8
"""Pixels. On a thinner tile there is nothing to see, and processors reject some."""
ANSWERS = ("Yes", "No")


def grid(name: str) -> tuple[Box, ...]:
    """The tiles of that grid, row by row."""
    count = GRIDS[name]
    side = 1 / (count - (count - 1) * OVERLAP)
    starts = [number * side * (1 - OVERLAP) for number in range(count)]
    return tuple(Box(x, y, x + side, y + side).clipped() for y in starts for x in starts)


@dataclass(frozen=True)
class _Tiles:
    name: str = "tiles"
    version: int = 1
    responds: bool = False

    def problem(self, engine: RunEngine, settings: GroundingSettings) -> str | None:
        if engine.can_score:
            return None
        return (
            "it scores the answers yes and no for each tile, and this server cannot score given texts; choose another "
            "grounding method, or engine=in_process"
        )

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        return ()

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        tiles = grid(settings.tiles)
        questions = [item.question for item in inputs]
        asked = [attempt(partial(_requests, question, tiles, engine)) for question in questions]
        wanted = [request for requests in asked if not isinstance(requests, Failure) for request in requests]
        scores = iter(call(engine.score, wanted))
        return [
            _region(
                question,
                tiles,
                requests if isinstance(requests, Failure) else [next(scores) for _ in requests],
                engine,
                settings,
            )
            for question, requests in zip(questions, asked, strict=True)
        ]


TILES = _Tiles()


def _requests(question: Question, tiles: Sequence[Box], engine: Engine) -> list[ScoreRequest]:
    """Yes and no of every tile, in order; nothing where the grid is finer than the image."""
    (picture,) = question.images
    crops = [_pixels(tile, picture.pixels.size) for tile in tiles]
    if min(min(crop.size) for crop in crops) < MIN_TILE_SIDE:
        return []
    asked: list[Conversation] = [
        (*system_turn(question), Message("user", (crop_picture(picture, crop), tile_prompt(question))))
        for crop in crops
    ]
    answers = [engine.continuation(asked[0], text) for text in ANSWERS]  # the same after every tile
    return [ScoreRequest(conversation, answer) for conversation in asked for answer in answers]


def _pixels(tile: Box, size: Size) -> Crop:
    width, height = size
    return Crop(round(tile.x1 * width), round(tile.y1 * height), round(tile.x2 * width), round(tile.y2 * height))


def _region(
    question: Question,
    tiles: Sequence[Box],
    scores: Sequence[Score | Failure] | Failure,
    engine: Engine,
    settings: GroundingSettings,
) -> Region | NoRegion:
    """The best tiles joined; of equal ones the first."""
    if isinstance(scores, Failure):
        return NoRegion(Fallback.GROUNDING_FAILED, cause=scores)
    if not scores:
        return NoRegion("grid_finer_than_image")
    likelihoods: list[float] = []
    for score in scores:
        if isinstance(score, Failure):
            return NoRegion(Fallback.GROUNDING_FAILED, cause=score)
        likelihoods.append(math.fsum(score.logprobs))
    odds = [yes - no for yes, no in zip(likelihoods[::2], likelihoods[1::2], strict=True)]
    best = sorted(range(len(tiles)), key=lambda number: -odds[number])[: settings.joined_tiles]
    return told_region(question, Box(*union(tiles[number].corners for number in best)), engine, settings)
