"""``grounding=detector`` with random detectors of both kinds: boxes, regions, refusals, and the stored answers' key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.detector import Detector, load_detector
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.method.grounding.phrases import phrases_of
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.settings import Settings
from tests.method.test_pipeline import ask, rule, stages
from tests.random_detectors import DETECTORS, save_random_detector
from tests.scripted_engine import ScriptedEngine

STEM = "What colour is the cup next to the tree?"


def picture(size: tuple[int, int] = (120, 80), seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise))


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    return {name: save_random_detector(folder / name, name) for name in DETECTORS}


@pytest.fixture(autouse=True)
def _own_detector() -> None:
    load_detector.cache_clear()


def test_several_detectors_stay_loaded(detectors: dict[str, Path]) -> None:
    """A sweep asks them in turn, batch by batch."""
    loaded = [load_detector(str(folder)) for folder in detectors.values()]
    assert len(loaded) > 1
    assert [load_detector(str(folder)) for folder in detectors.values()] == loaded


def settings_of(folder: Path, **changes: Any) -> Settings:
    return Settings(grounding="detector", detector=str(folder), strategy="micro", **changes)


@torch.inference_mode()
def plain_boxes(folder: Path, pixels: Image.Image, phrases: list[str]) -> list[list[float]]:
    """What transformers' own classes find, as fractions of the image."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=pixels, text=[phrases], return_tensors="pt")
    (found,) = processor.post_process_grounded_object_detection(model(**inputs), target_sizes=[pixels.size[::-1]])
    return (found["boxes"] / torch.tensor(pixels.size * 2)).clamp(0, 1).tolist()


@pytest.mark.parametrize("model_type", DETECTORS)
def test_the_boxes_are_those_of_the_detector(detectors: dict[str, Path], model_type: str) -> None:
    folder, image = detectors[model_type], picture()
    phrases = phrases_of(STEM)
    found = load_detector(str(folder)).boxes(image.pixels, phrases)
    expected = plain_boxes(folder, image.pixels, list(phrases))
    assert len(found) > 1
    torch.testing.assert_close(
        torch.tensor([[box.x1, box.y1, box.x2, box.y2] for box in found]),
        torch.tensor([box for box in expected if box[0] < box[2] and box[1] < box[3]]),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("model_type", DETECTORS)
def test_the_region_holds_all_boxes(detectors: dict[str, Path], model_type: str) -> None:
    engine, settings = ScriptedEngine(rule()), settings_of(detectors[model_type], margin=0)
    question = ask(stem=STEM, images=(picture(),))
    (trace,) = answer([question], engine, settings)
    found = load_detector(str(detectors[model_type])).boxes(picture().pixels, ("cup", "tree"))
    assert trace.grounding is not None
    assert trace.grounding.box == Box(
        min(box.x1 for box in found),
        min(box.y1 for box in found),
        max(box.x2 for box in found),
        max(box.y2 for box in found),
    )
    assert (trace.grounding.method, trace.selected) == ("detector", "micro")
    # The model is not asked for a box, but is said to have named this one.
    assert stages(engine) == [["micro"]]
    _, said, _ = engine.generated[0][0].conversation
    named = parse_box(str(said.content[0]), image_size=(120, 80)).box
    assert named is not None
    assert named.x1 == pytest.approx(trace.grounding.box.x1, abs=0.005)
    assert engine.counters.seconds["detector"] > 0


class Some(Detector):
    """What is found is told."""

    def boxes(self, image: Image.Image, phrases: Any) -> list[Box]:
        if "tree" in phrases:
            raise ArithmeticError("NaN")
        return [Box(0.1, 0.2, 0.3, 0.4), Box(0.5, 0.1, 0.6, 0.3)] if "cup" in phrases else []


def test_what_finds_nothing_is_counted_by_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualfocus_eval.engines.detector.load_detector", lambda place: Some(None, None, ""))
    stems = ("Is there a cup?", "Is there a ball?", "What is in the picture?", "Is there a tree?")
    questions = [ask(number, stem=stem, images=(picture(),)) for number, stem in enumerate(stems)]
    traces = answer(questions, ScriptedEngine(rule()), Settings(grounding="detector", detector="some"))
    assert [trace.fallback for trace in traces] == [None, "nothing_detected", "no_phrase", "grounding_failed"]
    assert traces[0].grounding is not None
    assert traces[0].grounding.box == Box(0.1, 0.1, 0.6, 0.4)
    assert [trace.selected for trace in traces[1:]] == ["macro"] * 3
    assert traces[3].cause is not None
    assert "NaN" in traces[3].cause.message
    # Named by nobody, so that the rule that averages over the model's own words has nothing to go by.
    assert "released" not in traces[0].picks


def test_a_detector_s_numbers_must_be_finite(detectors: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(detectors["owlv2"], tmp_path / "sick"))
    weights = load_file(folder / "model.safetensors")
    weights["box_head.dense0.weight"] *= float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArithmeticError, match="NaN or infinite"):
        load_detector(str(folder)).boxes(picture().pixels, ("cup",))


def _no_folder(folder: Path) -> str:
    shutil.rmtree(folder)
    return "no such folder; give a checkpoint folder or a hub id like owner/name"


def _no_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "no usable config.json"


def _other_model(folder: Path) -> str:
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    return "'clip' is no supported detector; supported are grounding-dino, mm-grounding-dino, owlv2, owlvit"


def _no_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "cannot be built and loaded"


def _part_of_the_weights(folder: Path) -> str:
    weights = load_file(folder / "model.safetensors")
    del weights["class_head.logit_scale.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return "1 of the architecture's weights are missing or of another shape, class_head.logit_scale.bias first"


@pytest.mark.parametrize("damage", [_no_folder, _no_config, _other_model, _no_weights, _part_of_the_weights])
def test_a_detector_that_cannot_be_used_is_refused_at_the_start(
    detectors: dict[str, Path], tmp_path: Path, llava: Checkpoint, damage: Callable[[Path], str]
) -> None:
    folder = Path(shutil.copytree(detectors["owlv2"], tmp_path / "detector"))
    said = damage(folder)
    engine = TransformersEngine(llava, 1, 0)
    with pytest.raises(UserError) as error:
        fitting_settings(settings_of(folder), engine)
    assert str(error.value).startswith(f"grounding=detector: detector={folder}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    fitting_settings(replace(settings_of(folder), strategy="macro"), engine)


def test_the_key_of_stored_answers_goes_by_the_detector_s_content(
    detectors: dict[str, Path], tmp_path: Path, llava: Checkpoint
) -> None:
    engine = TransformersEngine(llava, 1, 0)

    def key(folder: Path) -> str:
        return StoreKey.of(settings_of(folder), engine).settings_key

    copy = Path(shutil.copytree(detectors["owlv2"], tmp_path / "copy"))
    other = save_random_detector(tmp_path / "other", "owlv2", seed=1)
    assert key(copy) == key(detectors["owlv2"])
    assert len({key(folder) for folder in (copy, other, detectors["grounding-dino"])}) == 3


def test_it_is_loaded_once(detectors: dict[str, Path], llava: Checkpoint) -> None:
    settings = settings_of(detectors["owlv2"])
    fitting_settings(settings, TransformersEngine(llava, 1, 0))
    answer([ask(number, stem=STEM) for number in range(3)], ScriptedEngine(rule()), settings)
    assert load_detector.cache_info().misses == 1
