"""The registry of families: what it knows, what it says to the rest, and that it costs nothing to ask."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.families import FAMILIES, box_conventions, family_for
from dualfocus_eval.families.conventions import UNIT_BOX, Convention
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.family_notes import family_warnings
from dualfocus_eval.method.boxes import format_box, parse_box
from dualfocus_eval.method.settings import Settings, settings_key


def test_every_family_is_registered_under_its_model_type() -> None:
    assert {"llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"} <= set(FAMILIES.items)
    assert all(family_for(name, "checkpoint").model_type == name for name in FAMILIES.items)


def test_box_conventions_follow_the_models() -> None:
    expected = {
        "llava": "unit",
        "llava_next": "unit",
        "qwen2_vl": "qwen2_vl",
        "qwen2_5_vl": "qwen2_5_vl",
        "qwen3_vl": "bbox_2d_1000",
        "gemma3": "bbox_2d_1000",
        "gemma4": "gemma4",
    }
    assert expected.items() <= {name: family.box_convention.name for name, family in FAMILIES.items.items()}.items()
    assert {family.box_frame for family in FAMILIES} == {"image"}
    assert FAMILIES["gemma4"].trained_boxes
    assert not FAMILIES["gemma3"].trained_boxes


def test_a_model_that_transformers_does_not_load_for_images_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"some/model: model_type 'clip' is not supported; .* llava, llava_next"):
        family_for("clip", "some/model")
    with pytest.raises(CheckpointError, match="'llama' is a language model without a vision part"):
        family_for("llama", "some/model")


def test_every_other_one_has_the_generic_family() -> None:
    family = family_for("mllama", "some/model")
    assert "mllama" not in FAMILIES
    assert (family.engine, family.trained_boxes, family.settings["box_convention"]) == (
        "generate",
        None,
        "bbox_2d_1000",
    )
    assert "mllama runs in transformers' generate" in (family.no_reuse or "")


def test_boxes_that_a_family_cannot_write_or_read_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mllama"}')
    run = resolve({"pretrained": str(tmp_path)})
    assert (run.settings.box_convention, run.sources["box_convention"]) == ("bbox_2d_1000", "family")
    (warning,) = run.warnings
    assert "mllama may not be trained to write boxes" in warning
    assert "methods that need none: grounding=detector, grounding=tiles" in warning
    assert resolve({"pretrained": str(tmp_path), "strategy": "macro"}).warnings == ()
    assert resolve({}).warnings == ()
    with pytest.raises(UserError, match=r"box_convention=qwen2_5_vl is in pixels .* 'mllama'; choose one of: unit, "):
        resolve({"pretrained": str(tmp_path), "box_convention": "qwen2_5_vl"})


def test_a_warning_names_the_grounding_methods_that_need_no_boxes() -> None:
    untrained = replace(FAMILIES["llava"], trained_boxes=False)
    (warning,) = family_warnings(untrained, Settings())
    assert "llava was not trained to write boxes" in warning
    assert all(f"grounding={name}" in warning for name in ("attention", "detector", "tiles"))
    assert family_warnings(untrained, Settings(grounding="attention", selection="micro_context")) == ()


CORNERS = Convention("corners", "<{} {} {} {}>", scale=100.0, decimals=0, smallest=1.0)


def register(monkeypatch: pytest.MonkeyPatch, convention: Convention) -> None:
    family = replace(FAMILIES["llava"], model_type="mine", box_convention=convention, prompt_set="figure8")
    monkeypatch.setitem(FAMILIES.items, "mine", family)


def test_a_family_brings_its_box_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register(monkeypatch, CORNERS)
    assert family_for("mine", "checkpoint").model_type == "mine"
    box = Box(0.1, 0.2, 0.5, 0.6)
    text = format_box(box, "corners", image_size=(640, 480))
    assert text == "<10 20 50 60>"
    assert parse_box(text, "corners", image_size=(640, 480)).box == box
    (tmp_path / "config.json").write_text('{"model_type": "mine"}')
    run = resolve({"pretrained": str(tmp_path)})
    assert (run.settings.box_convention, run.settings.prompt_set) == ("corners", "figure8")
    assert run.sources["box_convention"] == "family"


def test_the_convention_itself_is_in_the_key_of_stored_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, CORNERS)
    key = settings_key(Settings(box_convention="corners"), {})
    register(monkeypatch, replace(CORNERS, scale=1000.0))
    assert settings_key(Settings(box_convention="corners"), {}) != key


def test_a_family_whose_convention_has_anothers_name_is_refused_and_costs_no_other_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, replace(CORNERS, name="unit"))
    assert box_conventions()["unit"] == UNIT_BOX
    assert resolve({}).settings.box_convention == "unit"
    assert family_for("llava", "checkpoint").box_convention == UNIT_BOX
    with pytest.raises(UserError, match="model family 'mine' brings a box convention named 'unit'"):
        family_for("mine", "checkpoint")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, dualfocus_eval.families, dualfocus_eval.engines.config\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
