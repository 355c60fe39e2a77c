from dataclasses import fields, replace

import pytest

from dualfocus_eval.method.boxes import CONVENTIONS
from dualfocus_eval.method.crops import CROP_VERSIONS
from dualfocus_eval.method.prompts import PROMPT_SETS
from dualfocus_eval.method.settings import Settings, settings_key


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("strategy", "both", "dualfocus, macro, micro"),
        ("selection", "oracle", "own_context, micro_context, released"),
        ("prompt_set", "mine", "released, format1, figure8"),
        ("box_convention", "pascal", "unit, qwen_vl"),
        ("crop", "half", "full, released"),
        ("margin", -1.0, "0 or more"),
        ("margin", float("nan"), "finite"),
        ("jitter", float("inf"), "finite"),
        ("adaptive_nll", -0.1, "0 or more"),
        ("max_box_tokens", 0, "1 or more"),
    ],
)
def test_a_wrong_value_is_refused_with_the_right_ones(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Settings(**{name: value})
    assert name in str(error.value)


def test_the_names_allowed_are_the_names_known() -> None:
    for name in CONVENTIONS:
        Settings(box_convention=name)
    for name in PROMPT_SETS:
        Settings(prompt_set=name)


CHANGES = {
    "strategy": "micro",
    "adaptive_nll": 0.7,
    "prompt_set": "figure8",
    "box_convention": "qwen_vl",
    "box_frame": "padded_square",
    "crop": "released",
    "margin": 10.0,
    "jitter": 25.0,
    "jitter_seed": 1,
    "option_scoring": "answer",
    "max_box_tokens": 32,
}


def test_the_key_covers_all_settings_but_the_selection_rule() -> None:
    assert set(CHANGES) == {setting.name for setting in fields(Settings)} - {"selection", "score_all"}
    base = Settings()
    keys = {settings_key(replace(base, **{name: value}), {}) for name, value in CHANGES.items()}
    assert len(keys | {settings_key(base, {})}) == len(CHANGES) + 1
    for selection in ("own_context", "micro_context", "released"):
        assert settings_key(Settings(selection=selection), {}) == settings_key(base, {})


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
    monkeypatch.setitem(CROP_VERSIONS, "released", CROP_VERSIONS["released"] + 1)
    assert settings_key(full, {}) == before[0]
    assert settings_key(released, {}) != before[1]
