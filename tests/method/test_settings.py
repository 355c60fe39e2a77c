from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.registry import Registry
from dualfocus_eval.common.validation import validated
from dualfocus_eval.families import box_conventions
from dualfocus_eval.families.conventions import GEMMA4_BOX
from dualfocus_eval.method.crops import CROP_RULES
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.prompts import PROMPT_SETS
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.settings import Settings, not_installed, settings_key, stored_settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("strategy", "both", "dualfocus, macro, micro"),
        ("selection", "oracle", "own_context, micro_context, released"),
        ("grounding", "guess", "text_box"),
        ("second_pass", "third", "append_crop"),
        ("prompt_set", "mine", "released, format1, figure8"),
        ("box_convention", "pascal", "unit, qwen_vl"),
        ("crop", "half", "full, released"),
        ("margin", -1.0, "at least 0"),
        ("margin", float("nan"), "at least 0"),
        ("jitter", float("inf"), "at least 0"),
        ("adaptive_nll", -0.1, "at least 0"),
        ("max_box_tokens", 0, "at least 1"),
        ("tiles", "9x9", "2x2, 3x3"),
        ("joined_tiles", 3, "at most 2"),
    ],
)
def test_a_wrong_value_is_refused_with_the_right_ones(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})
    with pytest.raises(UserError, match=f"^settings, {name}: .*{said}"):
        validated(Settings, {name: value}, "settings")


def test_the_names_allowed_are_the_names_known() -> None:
    for name in box_conventions():
        Settings(box_convention=name)
    for name in PROMPT_SETS:
        Settings(prompt_set=name)


CHANGES = {
    "strategy": "micro",
    "grounding": "elsewhere",
    "tiles": "2x2",
    "joined_tiles": 2,
    "second_pass": "otherwise",
    "adaptive_nll": 0.7,
    "prompt_set": "figure8",
    "box_convention": "qwen_vl",
    "box_frame": "padded_square",
    "crop": "released",
    "margin": 10.0,
    "jitter_seed": 1,
    "option_scoring": "answer",
    "max_box_tokens": 32,
}


@dataclass(frozen=True)
class Named:
    """As much of a grounding method or a second pass as the settings look at."""

    name: str
    version: int = 1
    responds: bool = False


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUNDING.items, "elsewhere", Named("elsewhere"))
    monkeypatch.setitem(SECOND_PASSES.items, "otherwise", Named("otherwise"))


@pytest.mark.usefixtures("others")
def test_the_key_covers_all_settings_but_the_selection_rule() -> None:
    left_out = {"selection", "score_all", "max_thinking_tokens", "attention_layer", "detector"}
    assert {*CHANGES, "jitter"} == {setting.name for setting in fields(Settings)} - left_out
    base, shifted = Settings(grounding="tiles"), Settings(grounding="shifted", jitter=10)
    assert settings_key(replace(shifted, jitter=25), {}) != settings_key(shifted, {})
    keys = {settings_key(replace(base, **{name: value}), {}) for name, value in CHANGES.items()}
    assert len(keys | {settings_key(base, {})}) == len(CHANGES) + 1
    # It matters to some checkpoints only, and is part of their identity (`harness.store_key`).
    assert settings_key(replace(base, max_thinking_tokens=7), {}) == settings_key(base, {})
    for selection in ("own_context", "micro_context", "released"):
        assert settings_key(Settings(selection=selection), {}) == settings_key(Settings(), {})


def test_options_of_one_grounding_method_are_in_its_keys_only() -> None:
    options = {"detector": "owner/detector", "tiles": "2x2", "joined_tiles": 2}
    assert settings_key(Settings(**options), {}) == settings_key(Settings(), {})


def test_a_detector_must_be_named() -> None:
    with pytest.raises(UserError, match=r"^settings: grounding='detector' needs .*detector=FOLDER or a hub id"):
        validated(Settings, {"grounding": "detector"}, "settings")
    Settings(grounding="detector", strategy="macro")


def test_the_key_tells_whether_scores_were_taken() -> None:
    unscored = Settings(selection="own_context", score_all=False)
    assert settings_key(unscored, {}) != settings_key(Settings(selection="own_context"), {})
    assert settings_key(Settings(selection="micro_context", score_all=False), {}) == settings_key(Settings(), {})


def test_the_key_covers_the_callers_identity_in_any_order() -> None:
    key = settings_key(Settings(), {"dtype": "float32", "revision": "a"})
    assert key == settings_key(Settings(), {"revision": "a", "dtype": "float32"})
    assert key != settings_key(Settings(), {"revision": "b", "dtype": "float32"})


def test_a_new_version_of_a_crop_rule_touches_the_keys_of_that_rule_only(monkeypatch: pytest.MonkeyPatch) -> None:
    full, released = Settings(), Settings(crop="released")
    before = settings_key(full, {}), settings_key(released, {})
    monkeypatch.setitem(CROP_RULES, "released", replace(CROP_RULES["released"], version=3))
    assert settings_key(full, {}) == before[0]
    assert settings_key(released, {}) != before[1]


@pytest.mark.parametrize(("name", "registry"), [("grounding", GROUNDING), ("second_pass", SECOND_PASSES)])
@pytest.mark.usefixtures("others")
def test_a_new_version_of_a_method_touches_its_own_keys_only(
    name: str, registry: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Settings(**{name: CHANGES[name]})
    before = settings_key(Settings(), {}), settings_key(other, {})
    monkeypatch.setitem(registry.items, CHANGES[name], Named(CHANGES[name], version=2))
    assert settings_key(Settings(), {}) == before[0]
    assert settings_key(other, {}) != before[1]


@pytest.mark.parametrize(
    ("convention", "key"),
    [
        ("unit", "12f704ba38763c58641dcc92605044b4"),
        ("qwen_vl", "6f1f1ed59c30eaf6f3530d06dda8b887"),
        ("qwen2_vl", "920fb532d5682d1290fe565dfe83a529"),
        ("qwen2_5_vl", "70f6d9a14f25953630979574f6abbcb5"),
    ],
)
def test_answers_stored_before_conventions_had_an_order_are_still_reused(convention: str, key: str) -> None:
    """``unit`` with a margin of 12 is what the embedded checkpoint declares."""
    assert settings_key(Settings(box_convention=convention, margin=12.0), {}) == key


def test_the_order_of_a_conventions_numbers_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = settings_key(Settings(box_convention="gemma4"), {})
    x_first = replace(GEMMA4_BOX, y_first=False)
    monkeypatch.setattr("dualfocus_eval.families.PUBLISHED", (x_first,))
    assert settings_key(Settings(box_convention="gemma4"), {}) != key


@pytest.mark.usefixtures("others")
def test_a_rule_that_needs_a_response_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"selection='released' needs .* grounding='elsewhere' does not"):
        Settings(grounding="elsewhere", selection="released")
    Settings(grounding="elsewhere", selection="micro_context")
    Settings(grounding="elsewhere", selection="released", strategy="micro")


def test_settings_of_older_files_and_of_extensions_are_read() -> None:
    stored = {"wording": "figure8", "selection": "own"}
    assert stored_settings(stored) == asdict(Settings(prompt_set="figure8", selection="own_context"))
    foreign = {"grounding": "segmenter", "second_pass": "highlight", "selection": "dice", "box_convention": "odd"}
    assert stored_settings(foreign) == asdict(Settings()) | foreign
    assert not_installed(asdict(Settings()) | foreign) == foreign
    with pytest.raises(UserError, match="settings, crop: 'half' is not one of"):
        stored_settings({"crop": "half"})
