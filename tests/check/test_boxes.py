"""Which convention and frame a model's boxes fit: by responses alone, and by models that write boxes."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from dualfocus_eval.check.boxes import MIN_RESPONSES, Response, check_boxes
from dualfocus_eval.check.checking import SetupCheck, check_setup
from dualfocus_eval.check.findings import what_is_off
from dualfocus_eval.check.probes import embedded_probes
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.families import FAMILIES, box_conventions
from dualfocus_eval.families.generic import generic_family
from dualfocus_eval.method.boxes import FRAMES, format_box
from dualfocus_eval.method.settings import Settings
from tests.check.forced import different_probes, forced_engine

SIZE, ENCODED = (640, 480), (1148, 840)
TRUTHS = [Box(0.03 * k, 0.02 * k, 0.03 * k + 0.3, 0.02 * k + 0.25) for k in range(1, 13)]


def responses(convention: str, frame: str = "image", truths: list[Box] = TRUTHS) -> list[Response]:
    return [
        Response(
            format_box(truth, convention, image_size=SIZE, encoded_size=ENCODED, frame=frame), SIZE, ENCODED, truth
        )
        for truth in truths
    ]


@functools.cache
def check(architecture: str, convention: str | None = None) -> SetupCheck:
    """A check of a random model that writes boxes in ``convention``, with its family's settings."""
    probes = different_probes()
    engine = forced_engine(architecture, probes, convention)
    settings = Settings(**FAMILIES[architecture].settings, max_box_tokens=128)
    return check_setup(probes, engine, settings, batch_size=8)


def reread(found: SetupCheck, **settings: str) -> tuple[str, ...]:
    """What is off with other settings of boxes, which change what is read, not what the model wrote."""
    assert found.boxes
    configured = {**found.boxes.configured.settings, **settings}
    boxes = check_boxes(found.boxes.responses, configured["box_convention"], configured["box_frame"])
    return what_is_off(replace(found, boxes=boxes))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("convention", box_conventions())
def test_every_convention_and_frame_is_recognised(convention: str, frame: str) -> None:
    found = check_boxes(responses(convention, frame), convention, frame)
    assert found.better is None
    assert found.configured.parsed == 1.0
    assert found.configured.iou is not None
    assert found.configured.iou > 0.9
    assert len(found.readings) == len(box_conventions()) * len(FRAMES)
    other = "unit" if convention != "unit" else "qwen2_vl"
    better = check_boxes(responses(convention, frame), other, frame).better
    assert better
    assert (better.convention, better.frame) == (convention, frame) or better.convention == "qwen2_5_vl"


@pytest.mark.parametrize("frame", FRAMES)
def test_a_wrong_frame_is_named(frame: str) -> None:
    (other,) = set(FRAMES) - {frame}
    better = check_boxes(responses("unit", frame), "unit", other).better
    assert better
    assert better.settings == {"box_convention": "unit", "box_frame": frame}


def test_of_readings_that_read_the_same_boxes_none_is_better() -> None:
    found = check_boxes(responses("bbox_2d_1000"), "internvl", "image")
    assert found.better is None
    named = check_boxes(responses("bbox_2d_1000"), "unit", "image")
    assert named.better
    assert named.better.convention == "bbox_2d_1000"
    assert {one.convention for one in named.alike} >= {"qwen2_vl", "internvl", "glm4v"}
    bare = [replace(one, text=one.text.replace("bbox_2d", "box")) for one in responses("bbox_2d_1000")]
    preferred = check_boxes(bare, "unit", "image", family_convention="glm4v").better
    assert preferred
    assert preferred.convention == "glm4v"


def test_few_responses_tell_nothing_apart() -> None:
    few = responses("unit")[: MIN_RESPONSES - 1]
    assert check_boxes(few, "qwen2_vl", "image").better is None
    assert check_boxes(responses("unit")[:MIN_RESPONSES], "qwen2_vl", "image").better


def test_without_known_objects_the_share_that_parses_decides() -> None:
    unknown = [replace(one, truth=None) for one in responses("unit")]
    found = check_boxes(unknown, "qwen2_vl", "image")
    assert found.better
    assert found.better.convention == "unit"
    assert found.better.iou is None
    assert {one.frame for one in found.alike} == {"padded_square"}
    assert check_boxes(unknown, "unit", "padded_square").better is None


def test_a_convention_in_pixels_needs_the_encoded_size() -> None:
    found = check_boxes([replace(one, encoded_size=None) for one in responses("unit")], "unit", "image")
    assert found.unknown == ("qwen2_5_vl",)
    assert "qwen2_5_vl" not in {reading.convention for reading in found.readings}


def test_the_scenes_tell_frames_apart() -> None:
    probes = embedded_probes(24)
    assert len({probe.question.images[0].digest for probe in probes}) == 24
    sizes = {probe.question.images[0].pixels.size for probe in probes}
    assert {width > height for width, height in sizes} == {True, False}
    assert all(width != height for width, height in sizes)


@pytest.mark.parametrize("architecture", ["llava", "qwen2_vl", "qwen2_5_vl"])
def test_a_models_own_boxes_are_found(architecture: str) -> None:
    found = check(architecture)
    assert found.boxes
    assert len(found.boxes.responses) == found.second_passes == found.questions >= MIN_RESPONSES
    assert found.boxes.configured.iou is not None
    assert found.boxes.configured.iou > 0.8
    assert what_is_off(found) == ()


@pytest.mark.parametrize(
    ("architecture", "wrong", "named"),
    [
        ("llava", {"box_convention": "qwen2_vl"}, "--model_args box_convention=unit"),
        ("llava", {"box_frame": "padded_square"}, "--model_args box_frame=image"),
        ("qwen2_vl", {"box_convention": "unit"}, "--model_args box_convention=qwen2_vl; "),
        ("qwen2_5_vl", {"box_convention": "qwen2_vl"}, "--model_args box_convention=qwen2_5_vl"),
    ],
)
def test_a_wrong_setting_is_named(architecture: str, wrong: dict[str, str], named: str) -> None:
    (line,) = reread(check(architecture), **wrong)
    assert line.startswith("the boxes fit ")
    assert named in f"{line}; "


def test_boxes_with_y_first_are_named() -> None:
    (line,) = what_is_off(check("llava", "gemma4"))
    assert "pass --model_args box_convention=gemma4" in line
    assert reread(check("llava", "gemma4"), box_convention="gemma4") == ()


def test_a_model_of_which_only_its_processor_is_known() -> None:
    """transformers' generate: no prefix is reused, and boxes in pixels of the resized image cannot be read."""
    probes, family = different_probes()[:3], generic_family("llava")
    engine = forced_engine("llava", probes, family=family)
    settings = Settings(**family.settings, max_box_tokens=128)
    found = check_setup(probes, engine, settings, batch_size=8)
    assert what_is_off(found) == ()
    assert found.engine
    assert (found.engine.engine, found.engine.no_reuse) == ("generate", family.no_reuse)
    assert found.boxes
    assert found.boxes.unknown == ("qwen2_5_vl",)
    assert found.agreement
    assert [one.variant for one in found.agreement] == ["one at a time, no prefix reuse"]
    known = check("llava").prompts
    assert found.prompts.images.tokens == known.images.tokens
    assert [prompt.parts for prompt in found.prompts.rendered[:2]] == [prompt.parts for prompt in known.rendered[:2]]


def test_without_boxes_the_second_pass_is_checked_all_the_same() -> None:
    engine = forced_engine("qwen2_vl", [])
    found = check_setup(different_probes()[:3], engine, Settings(**FAMILIES["qwen2_vl"].settings), batch_size=8)
    assert found.second_passes == found.regions_given == found.questions == 3
    assert [prompt.name for prompt in found.prompts.rendered][-1] == "second pass"
    assert found.prompts.crops.tokens.fewest
    assert found.agreement
    assert {one.answers for one in found.agreement} == {9}
    (line,) = what_is_off(found)
    assert line.startswith("0% of the grounding responses have a usable box under box_convention=qwen2_vl,")
    assert line.endswith(
        "choose a grounding method that needs none (grounding=attention or grounding=detector or grounding=tiles)"
    )


def test_regions_by_attention_are_no_boxes_of_the_model() -> None:
    """Its second pass is checked; what it is said to have named tells nothing of its conventions."""
    engine = forced_engine("llava", [])
    settings = Settings(**FAMILIES["llava"].settings, grounding="attention")
    found = check_setup(different_probes()[:2], engine, settings, batch_size=8)
    assert (found.boxes, found.second_passes, found.regions_given, found.failures) == (None, 2, 0, ())
    assert what_is_off(found) == ()
