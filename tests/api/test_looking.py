"""Ways to choose the region, from a loaded model to its answers and back from the store."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import dualfocus_eval as df
from dualfocus_eval.method.grounding.tiles import grid
from tests.random_detectors import save_random_detector

Scenes = list[dict[str, Any]]


def test_tiles(scenes: Scenes) -> None:
    with df.load(grounding="tiles", tiles="2x2", batch_size=4) as model:
        asked = [(scene["image"]["bytes"], scene["question"]) for scene in scenes[:4]]
        answers = model.ask_batch(asked)
        assert all(answer.micro and answer.region for answer in answers)
        assert {answer.box for answer in answers} <= set(grid("2x2"))
        # One image, its four tiles, and the crops.
        assert model.counters.images_encoded <= 1 + 4 + 4
        single = df.load(grounding="tiles", tiles="2x2").ask_batch(asked[:2])
        assert [answer.box for answer in single] == [answer.box for answer in answers[:2]]


def test_a_detector(scenes: Scenes, tmp_path: Path) -> None:
    detector, traces = save_random_detector(tmp_path / "detector"), tmp_path / "traces"

    def load() -> df.Model:
        return df.load(grounding="detector", detector=detector, trace_dir=traces)

    image, question = scenes[0]["image"]["bytes"], scenes[0]["question"]
    with load() as model:
        answer = model.ask(image, question)
        assert answer.box
        assert answer.micro
        assert "released" not in answer.trace.picks
        assert model.ask(image, "What is in the image?").fallback == "no_phrase"
    with load() as model:
        before = copy.deepcopy(model.counters)
        assert model.ask(image, question).trace == answer.trace
        assert model.counters == before


def test_what_is_wrong_with_a_detector_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(df.UserError, match="grounding='detector' needs the detector's name: pass detector=FOLDER"):
        df.load(grounding="detector")
    with pytest.raises(df.UserError, match=r"^grounding=detector: detector=.*/nowhere: no such folder"):
        df.load(grounding="detector", detector=str(tmp_path / "nowhere"))
    with pytest.raises(df.UserError, match=r"^second_pass=fifth_patch: an image of model_type 'llava'"):
        df.load(second_pass="fifth_patch")


def test_an_option_of_another_method_is_told_to_have_no_effect() -> None:
    with pytest.warns(UserWarning, match=r"^tiles=2x2 has no effect: it is an option of grounding=tiles only"):
        df.load(tiles="2x2").close()
