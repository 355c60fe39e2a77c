"""The registry of families: what it knows, what it says to the rest, and that it costs nothing to ask."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.families import FAMILIES, family_for


def test_every_family_is_registered_under_its_model_type() -> None:
    assert set(FAMILIES.items) == {"llava", "llava_next", "qwen2_vl", "qwen2_5_vl"}
    assert all(family_for(name, "checkpoint").model_type == name for name in FAMILIES.items)


def test_box_conventions_follow_the_models() -> None:
    conventions = {name: family.box_convention.name for name, family in FAMILIES.items.items()}
    assert conventions == {"llava": "unit", "llava_next": "unit", "qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_5_vl"}
    assert {family.box_frame for family in FAMILIES} == {"image"}


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"some/model: model_type 'blip' .* llava, llava_next"):
        family_for("blip", "some/model")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, dualfocus_eval.families, dualfocus_eval.engines.config\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
